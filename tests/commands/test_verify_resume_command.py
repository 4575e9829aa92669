"""`mmaudio verify-resume`: which tensor it names, what it asks train.py for, and the whole command as a user runs it."""

import runpy
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from mmaudio.base.errors import Problems, UserError
from mmaudio.checkpoints.difference import TOLERANCE, compare_runs, tensors_by_path, verdict
from mmaudio.checkpoints.run_files import RunFiles
from mmaudio.commands import verify_resume as runs
from mmaudio.commands.verify_resume import EXP_ID, TrainCommand, end_all, train_words
from tests.conftest import ROOT, own_handlers
from tests.trainer.tiny_stores import TINY, data_overrides, write_tiny_data


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_tiny_data(tmp_path_factory.mktemp("data"))


def train_here(words: list[str], folder: Path) -> None:
    """What the command's runs do, in this process."""
    with own_handlers(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train.py", *words, f"hydra.run.dir={folder}"])
        with pytest.raises(SystemExit) as leave:
            runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
    assert not leave.value.code


@pytest.fixture(scope="module")
def words(data) -> list[str]:
    return train_words([*TINY, *data_overrides(data), "validate_first=False"], 2, (1, 2), Problems())


@pytest.fixture(scope="module")
def straight(words, tmp_path_factory) -> Path:
    """Four steps without a stop."""
    folder = tmp_path_factory.mktemp("straight") / "run"
    train_here(words, folder)
    return folder


def test_a_killed_run_ends_as_a_straight_one(words, straight, tmp_path):
    killed = tmp_path / "killed"
    shutil.copytree(straight, killed)
    files = RunFiles(killed, EXP_ID)
    for path in (files.checkpoint_last, files.checkpoint_last.with_name(f"{files.checkpoint_last.name}.json"), files.ema_final):
        path.unlink()  # the shadow is of step 2, as a kill in the middle leaves it
    train_here(words, killed)
    found = compare_runs(straight, killed, EXP_ID)
    assert found.first is None and found.num_tensors > 300
    assert verdict(found, 0.0) == f"none of the {found.num_tensors} tensors differs"


def test_the_tensor_that_differs_is_named(straight, tmp_path):
    changed = tmp_path / "changed"
    shutil.copytree(straight, changed)
    path = RunFiles(changed, EXP_ID).checkpoint_last
    content = torch.load(path, weights_only=True)
    weight = content["weights"]["clip_input_proj.0.weight"]
    largest = weight.abs().max()
    weight[0, 0] += 0.5 * largest
    torch.save(content, path)
    found = compare_runs(straight, changed, EXP_ID)
    assert found.first.name == "checkpoint: weights/clip_input_proj.0.weight" and found.num_differing == 1
    assert found.first.largest == pytest.approx(float(0.5 * largest)) and 0.3 < found.first.relative <= 0.5
    told = verdict(found, 0.0)
    assert told.startswith("checkpoint: weights/clip_input_proj.0.weight is the first of 1 of") and "largest difference" in told
    assert compare_runs(straight, changed, EXP_ID, tolerance=0.6).first is None
    assert compare_runs(straight, changed, EXP_ID, tolerance=TOLERANCE).first is not None


def test_optimizer_and_averages_are_compared_and_names_too(straight):
    names = set(tensors_by_path(torch.load(RunFiles(straight, EXP_ID).checkpoint_last, weights_only=True), ""))
    assert {name.split("/")[0] for name in names} >= {"weights", "optimizer", "ema"}


def test_shapes_missing_tensors_and_signs_of_zero(tmp_path):
    for name, entry in (("a", {"x": torch.zeros(2), "y": torch.ones(1)}), ("b", {"x": -torch.zeros(2)}), ("c", {"x": torch.zeros(3)})):
        folder = tmp_path / name
        folder.mkdir()
        torch.save({"weights": entry}, RunFiles(folder, EXP_ID).checkpoint_last)
    signs, shapes = compare_runs(tmp_path / "a", tmp_path / "b", EXP_ID), compare_runs(tmp_path / "a", tmp_path / "c", EXP_ID)
    assert signs.num_differing == 2 and signs.first.name.endswith("weights/x"), "bit for bit, and y is not there"
    assert "only in one of the two" in compare_runs(tmp_path / "b", tmp_path / "a", EXP_ID, tolerance=1.0).first.told
    assert "(2,) in one and (3,) in the other" in shapes.first.told
    with pytest.raises(UserError, match="no file at"):
        compare_runs(tmp_path / "a", tmp_path / "d", EXP_ID)


def test_what_train_is_asked_for():
    words = train_words([], 3, (1, 2), Problems())
    assert {"example_train=True", "device=cpu", "backend=lite", "model=nano_16k", "num_iterations=6", "save_checkpoint_interval=3"} <= set(
        words
    )
    assert "batch_size=4" in words
    assert "batch_size=6" in train_words([], 3, (2, 3), Problems())
    own = train_words(["data.train=[birds]", "batch_size=8", "device=cuda"], 3, (1,), Problems())
    assert "device=cpu" not in own and "example_train=True" not in own and own.count("batch_size=8") == 1
    problems = Problems()
    train_words(["num_iterations=9", "exp_id=x", "hydra.run.dir=y", "+num_iterations=9"], 3, (1,), problems)
    assert len(problems.sentences) == 3 and problems.sentences[0].startswith("num_iterations is chosen by verify-resume")


FAKE = """
import pathlib, sys, time
folder = pathlib.Path(sys.argv[-1].partition("=")[2])
(folder / "verify_ckpt_last.pth").write_bytes(b"of step 2")
for step in range(1, 5):
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"steps_done": %d}\\n' % step)
    time.sleep({pause})
"""


def test_a_run_is_killed_between_its_checkpoint_and_its_end(monkeypatch, tmp_path):
    script = tmp_path / "train.py"
    monkeypatch.setattr(runs, "TRAIN", (str(script),))
    script.write_text(FAKE.replace("{pause}", "0.5"))
    assert TrainCommand(["x=1"]).kill_after(2, tmp_path / "run", 1) == 3
    script.write_text(FAKE.replace("{pause}", "0"))
    with pytest.raises(UserError, match="2 steps are over before they can be interrupted; give more with --steps 8"):
        TrainCommand(["x=1"]).kill_after(2, tmp_path / "another", 1)
    with pytest.raises(UserError, match="run was not made by this program"):
        TrainCommand(["x=1"]).kill_after(2, tmp_path / "run", 1)
    assert (tmp_path / "run" / "verify_ckpt_last.pth").is_file()
    script.write_text("import sys; print('error: no such thing'); sys.exit(2)")
    with pytest.raises(UserError, match=r"(?s)exit code 2 in .*error: no such thing"):
        TrainCommand(["x=1"]).run(tmp_path / "other", 1)


def test_everything_a_command_started_is_ended():
    code = "import subprocess, sys; subprocess.Popen(['sleep', '600'], start_new_session=True); print('up', flush=True); input()"
    started = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    assert started.stdout.read(2) == b"up"
    ended = end_all(started)
    assert started.returncode == -signal.SIGKILL and len(ended) == 2
    deadline = time.monotonic() + 10
    while any(Path("/proc", str(pid)).exists() for pid in ended) and time.monotonic() < deadline:
        states = [Path("/proc", str(pid), "stat") for pid in ended]
        if all(not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] == "Z" for stat in states):
            break
        time.sleep(0.02)
    started.stdin.close()
    started.stdout.close()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [(["--steps", "0"], "--steps is 0"), (["--processes", "0"], "at least 1"), (["num_iterations=3"], "num_iterations is chosen by")],
)
def test_mistakes_are_sentences(run_command, tmp_path, monkeypatch, words, sentence):
    monkeypatch.chdir(tmp_path)
    ended = run_command("verify-resume", *words)
    assert ended.code == 2 and sentence in ended.err and ended.err.startswith("error: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_command_on_the_example(tmp_path):
    words = [sys.executable, "-m", "mmaudio.commands.main", "verify-resume", "--steps", "4"]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "PASSIVE"}
    ended = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.count("none of the ") == 2
    assert "killed after step" in ended.stdout
    assert list((tmp_path / "output").iterdir()) == [], "nothing is left of a comparison that holds"
