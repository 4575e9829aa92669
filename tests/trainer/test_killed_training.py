"""A training killed again and again, between steps and in the midst of writing: gone on with, it ends bit for bit as an undisturbed one."""

import itertools
import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from mmaudio.checkpoints.load import newest_checkpoint
from mmaudio.checkpoints.run_files import RunFiles
from mmaudio.runs.folder import REQUEUE_FILE
from mmaudio.trainer.tracker import read_metrics
from tests.extraction.killing import WAYS, kill_each, processes_of, start, victims, wait_until_gone
from tests.trainer.test_training import tensors
from tests.trainer.tiny_stores import TINY, data_overrides, write_tiny_data

pytestmark = pytest.mark.slow
NAME = "x"
NUM_STEPS = 40
# Checkpoints and snapshots are due at different steps, and the room for snapshots is for five times two, so that some are removed.
WORDS = (
    *TINY,
    f"exp_id={NAME}",
    f"num_iterations={NUM_STEPS}",
    "log_text_interval=1",
    "val_interval=10",
    "log_extra_interval=0",
    "save_weights_interval=4",
    "save_checkpoint_interval=3",
    "ema.checkpoint_every=2",
    "ema.max_snapshots_gb=0.1",
)
BETWEEN, ANY_TIME, WRITING = "between steps", "at any time", "while a checkpoint is written"
MOMENTS = (BETWEEN, BETWEEN, BETWEEN, WRITING, WRITING, WRITING, BETWEEN, ANY_TIME, ANY_TIME, WRITING)  # their ways take turns
LATE_S = 120.0  # for a start on a busy machine
FOLLOWS_LAUNCHER_S = 10.0
SAME_IN_ALL_RUNS = ("steps_done", "loss", "binned_loss", "grad_norm", "lr")  # the other numbers are times and the like


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_tiny_data(tmp_path_factory.mktemp("data"))


@dataclass
class Training:
    """One command, started again and again in the same folder; `begin` starts it."""

    data: Path
    folder: Path
    processes: int
    words: tuple[str, ...] = WORDS

    def __post_init__(self) -> None:
        self.files, self.marker, self.starts = RunFiles(self.folder, NAME), f"hydra.run.dir={self.folder}", itertools.count()

    def begin(self) -> None:
        self.log, self.began_s = self.folder.with_name(f"{self.folder.name}.{next(self.starts)}.log"), time.monotonic()
        self.left_before = self.half_written()
        self.running = start("train.py", [*data_overrides(self.data), *self.words, self.marker], self.processes, self.log)

    def half_written(self) -> set[Path]:
        return set(self.folder.rglob(".*.tmp"))

    def half_written_checkpoint(self) -> Path | None:
        """The temporary file at which this start of the command writes right now."""
        found = set(self.folder.glob(f".*.tmp/{self.files.checkpoint_last.name}"))
        found = {path for path in found if path.parent not in self.left_before}
        return next(iter(found), None)

    def steps_taken(self) -> int:
        """By this start of the command."""
        return len(re.findall(r" train \d+: loss", self.log.read_text()))

    def wait_until(self, is_so: Callable[[], Any], poll_s: float = 0.05) -> Any:
        until = time.monotonic() + LATE_S
        while not (found := is_so()):
            assert time.monotonic() < until, self.log.read_text()
            assert self.running.poll() is None, self.log.read_text()
            time.sleep(poll_s)
        return found

    def kill(self, way: str, moment: str, draw: random.Random) -> "Killed":
        """Kill it at such a moment and in this way, and wait until no process is left."""
        if moment == ANY_TIME:
            time.sleep(draw.uniform(1.0, 10.0))
        else:
            num_steps = draw.randint(2, 7) if moment == BETWEEN else 1
            self.wait_until(lambda: self.steps_taken() >= num_steps)
        if moment == BETWEEN:
            time.sleep(draw.uniform(0.0, 0.3))
        chosen = victims(self.running, way, self.marker, draw)  # known before a write begins, which is over soon
        if moment == WRITING:
            written: Path = self.wait_until(self.half_written_checkpoint, poll_s=0.001)
            if way == "one worker":
                chosen = [int(json.loads((written.parent / ".mmaudio-owner").read_text())["pid"])]  # the one that writes
        assert self.running.poll() is None, f"ended before it was killed:\n{self.log.read_text()}"
        kill_each(chosen)
        killed_s = time.monotonic()
        wait_until_gone(self.running, self.marker)
        gone_s = time.monotonic() - killed_s
        torn = sorted(file.name for path in self.half_written() - self.left_before for file in path.iterdir())
        found = newest_checkpoint(self.files)
        assert found is None or found.skipped == ()  # nothing torn has the name of a checkpoint
        return Killed(way, moment, killed_s - self.began_s, gone_s, self.steps_taken(), found.state.steps_done if found else 0, torn)

    def end(self) -> None:
        """Start it and let it come to its end."""
        self.begin()
        assert self.running.wait(300) == 0, self.log.read_text()
        wait_until_gone(self.running, self.marker)


@dataclass(frozen=True)
class Killed:
    way: str
    moment: str
    after_s: float
    gone_s: float  # from the kill until no process was left
    steps_taken: int
    steps_kept: int
    half_written: list[str]  # what the temporary folders of this start hold

    @property
    def tore_a_checkpoint(self) -> bool:
        return f"{NAME}_ckpt_last.pth" in self.half_written


@pytest.fixture
def training(data, tmp_path):
    """Makes trainings; what is left of them in the end is killed."""
    made: list[Training] = []

    def make(name: str, processes: int) -> Training:
        made.append(Training(data, tmp_path / name, processes))
        return made[-1]

    yield make
    for each in made:
        kill_each(processes_of(each.marker))


def numbers(folder: Path) -> list[dict[str, Any]]:
    """What a run says of its learning, line by line."""
    return [{name: value for name, value in line.items() if name.rpartition("/")[2] in SAME_IN_ALL_RUNS} for line in read_metrics(folder)]


def contents(folder: Path) -> dict[str, Any]:
    """Everything a run saved, by the name of its file."""
    found = [*folder.glob("*.pth"), *(folder / "ema_ckpts").glob("*.pt")]
    return {path.name: torch.load(path, weights_only=True) for path in found}


def assert_same_end(resumed: Training, straight: Training, passes_over: str = "") -> None:
    """`passes_over`: ending of the names of files that may differ, such as those kept from the save before the last."""
    mine, theirs = (
        {name: content for name, content in contents(each.folder).items() if not (passes_over and name.endswith(passes_over))}
        for each in (resumed, straight)
    )
    assert mine.keys() == theirs.keys()
    assert {f"{NAME}_ckpt_last.pth", f"{NAME}_last.pth", f"{NAME}_ema_final.pth", f"{NAME}_best.pth"} <= mine.keys()
    for name, content in mine.items():
        own, other = tensors(content), tensors(theirs[name])
        assert own.keys() == other.keys()
        assert [key for key in own if own[key].dtype != other[key].dtype or not torch.equal(own[key], other[key])] == [], name
    last, wanted = (each[f"{NAME}_ckpt_last.pth"] for each in (mine, theirs))
    assert {key: last[key] for key in ("it", "scheduler", "extra")} == {key: wanted[key] for key in ("it", "scheduler", "extra")}
    assert numbers(resumed.folder) == numbers(straight.folder)
    assert [line["steps_done"] for line in read_metrics(resumed.folder) if "train/loss" in line] == list(range(1, NUM_STEPS + 1))
    assert resumed.half_written() == set()
    assert processes_of(resumed.marker) == []


def told(kills: list[Killed]) -> str:
    return "\n".join(map(str, kills))


def test_two_processes_killed_ten_times(training):
    straight, resumed = training("straight", 2), training("resumed", 2)
    straight.end()
    draw, kills = random.Random(23), list[Killed]()
    for index, moment in enumerate(MOMENTS):
        resumed.begin()
        kills.append(resumed.kill(WAYS[index % len(WAYS)], moment, draw))
        print(kills[-1])
    assert [each.steps_kept for each in kills] == sorted(each.steps_kept for each in kills)  # no kill loses what was saved
    assert Counter(each.way for each in kills).keys() == set(WAYS)
    assert sum(each.tore_a_checkpoint for each in kills) >= 2, told(kills)
    assert all(each.gone_s < FOLLOWS_LAUNCHER_S for each in kills if each.way == "the launcher" and each.moment != ANY_TIME), told(kills)
    resumed.end()
    assert_same_end(resumed, straight)


def test_one_process_killed_and_asked_to_stop(training):
    straight, resumed = training("straight", 1), training("resumed", 1)
    straight.end()
    draw, kills = random.Random(29), list[Killed]()
    for moment in (BETWEEN, WRITING, ANY_TIME, WRITING):
        resumed.begin()
        kills.append(resumed.kill("all at once", moment, draw))
        print(kills[-1])
    assert any(each.tore_a_checkpoint for each in kills), told(kills)
    resumed.begin()
    resumed.wait_until(lambda: resumed.steps_taken() >= 2)
    steps_before = kills[-1].steps_kept
    resumed.running.terminate()
    assert resumed.running.wait(60) == 75, resumed.log.read_text()
    assert (resumed.folder / REQUEUE_FILE).is_file()
    found = newest_checkpoint(resumed.files)
    assert found is not None
    assert found.state.steps_done == steps_before + resumed.steps_taken()  # the last step before the stop is kept
    resumed.begin()
    resumed.wait_until(lambda: resumed.steps_taken() >= 1)
    assert not (resumed.folder / REQUEUE_FILE).exists()
    assert resumed.running.wait(300) == 0, resumed.log.read_text()
    assert_same_end(resumed, straight)
