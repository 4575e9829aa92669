"""`mmaudio verify-resume`: whether a run that is killed and resumed ends as one that is not, by `mmaudio train` itself."""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import lcm
from pathlib import Path

from mmaudio.base.errors import Problems, UserError
from mmaudio.base.machine import child_environment
from mmaudio.base.options import options_parser
from mmaudio.checkpoints.run_files import RunFiles
from mmaudio.files.ownership import foreign
from mmaudio.runs.folder import METRICS_FILE

OUTPUT = Path("output")


def main(argv: Sequence[str]) -> int:
    options, words = _parser().parse_known_args(argv)
    problems = Problems()
    for name in ("steps", "processes", "other_processes"):
        if getattr(options, name) < 1:
            problems.add(f"--{name} is {getattr(options, name)}; want at least 1")
    problems.raise_any()

    command = TrainCommand(train_words(words, options.steps, (options.processes, options.other_processes), problems), _say)
    problems.raise_any()
    if not is_own_data(words):
        make_example_stores(_say)
    OUTPUT.mkdir(exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix="verify-resume-", dir=OUTPUT))
    try:
        holds = _compare_runs(command, place, options)
    except (UserError, KeyboardInterrupt):
        _say(f"what was done is in {place}")
        raise
    if holds:
        shutil.rmtree(place)
    else:
        _say(f"the runs are in {place}")
    return 0 if holds else 1


def _parser() -> argparse.ArgumentParser:
    example = (
        "mmaudio verify-resume\n  mmaudio verify-resume --steps 20 --processes 2 --other_processes 4 'data.train=[birds]' … device=cuda"
    )
    what = "Trains 2N steps straight, and N, killed, and N more; compares the ends. Settings as for training (default: a small example)."
    parser = options_parser("mmaudio verify-resume", what, example)
    parser.usage = "mmaudio verify-resume [--steps N] [--processes P] [--other_processes Q] [key=value …]"
    parser.add_argument("--steps", type=int, default=5, help="N (default 5)")
    parser.add_argument("--processes", type=int, default=1, help="P, of the straight run and the killed one (default 1)")
    parser.add_argument("--other_processes", type=int, default=2, help="Q, that go on in its place; P for no such run (default 2)")
    return parser


def _compare_runs(command: "TrainCommand", place: Path, options: argparse.Namespace) -> bool:
    """Train straight, and killed and resumed; say how the ends differ. Returns: whether they are the same."""
    from mmaudio.checkpoints.difference import TOLERANCE, compare_runs, verdict

    num_steps, processes, others = options.steps, options.processes, options.other_processes
    straight, killed = place / "straight", place / "killed"
    _say(f"{2 * num_steps} steps straight on {_processes(processes)}")
    command.run(straight, processes)
    _say(f"{num_steps} steps on {_processes(processes)}, and a kill")
    _say(f"  killed after step {command.kill_after(num_steps, killed, processes)}")
    holds = True
    for count in dict.fromkeys((processes, others)):
        resumed, tolerance = place / f"resumed-{count}", 0.0 if count == processes else TOLERANCE
        shutil.copytree(killed, resumed)
        _say(f"the same command again on {_processes(count)}")
        command.run(resumed, count)
        found = compare_runs(straight, resumed, EXP_ID, tolerance)
        _say(f"{_processes(count)}: {verdict(found, tolerance)}")
        on_gpu = not any(word == "device=cpu" for word in command.words)
        if found.first is not None and tolerance == 0 and on_gpu:
            _say("  (on a GPU some sums have no fixed order, so bits may differ; held against the tolerance instead)")
            found, tolerance = compare_runs(straight, resumed, EXP_ID, TOLERANCE), TOLERANCE
            _say(f"{_processes(count)}: {verdict(found, tolerance)}")
        holds = holds and found.first is None
    return holds


def _processes(count: int) -> str:
    return f"{count} process{'es'[: 2 * (count != 1)]}"


def _say(line: str) -> None:
    print(line, flush=True)


# ---- Training runs by the command line, whole or killed in the middle

EXP_ID = "verify"
TRAIN = ("-m", "mmaudio", "train")  # after the interpreter, or after torchrun
EXAMPLE = {
    "example_train": "True",
    "model": "nano_16k",
    "device": "cpu",
    "backend": "lite",
    "linear_warmup_steps": "2",
    "val_interval": "0",
}
UNHEARD = {"log_extra_interval": "0", "evaluate.test": "False"}  # whether a run can be heard is another question
EXAMPLE_ROWS = 8  # of the guide's example
CHOSEN = ("num_iterations", "save_checkpoint_interval", "exp_id", "hydra.run.dir")
POLL_S, TELL_S = 0.01, 10.0
LINES_PASSED_ON = 12  # of what a run that failed said
TRIES = 3


def is_own_data(words: Sequence[str]) -> bool:
    """Whether settings say what to train on."""
    return any(word.lstrip("+").startswith(("data.", "data=", "example_train=", "mini_train=")) for word in words)


def train_words(words: Sequence[str], num_steps: int, processes: Sequence[int], problems: Problems) -> list[str]:
    """The settings for training: the user's, those of a small example where they name no data, and what this command needs.

    Settings that are this command's to choose go to `problems`.
    """
    given = {word.split("=", 1)[0].lstrip("+~") for word in words}
    for key in CHOSEN:
        if key in given:
            problems.add(f"{key} is chosen by verify-resume; leave it out (--steps says how many)")
    together = lcm(*processes)
    batch = {"batch_size": str(2 * together if 2 * together <= EXAMPLE_ROWS // 2 else together)}
    ours = {} if is_own_data(words) else {key: value for key, value in (EXAMPLE | batch).items() if key not in given}
    ours |= {key: value for key, value in UNHEARD.items() if key not in given}
    ours |= {"num_iterations": str(2 * num_steps), "save_checkpoint_interval": str(num_steps), "exp_id": EXP_ID, "log_text_interval": "1"}
    return [*(f"{key}={value}" for key, value in ours.items()), *words]


@dataclass(frozen=True)
class TrainCommand:
    """`mmaudio train` with some settings, in any folder and on any number of processes; `tell` hears of the progress."""

    words: Sequence[str]
    tell: Callable[[str], None] = lambda _: None

    def _start(self, folder: Path, num_processes: int) -> "subprocess.Popen[bytes]":
        folder.mkdir(parents=True, exist_ok=True)
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={num_processes}"] if num_processes > 1 else []
        command = [sys.executable, *launcher, *TRAIN, *self.words, f"hydra.run.dir={folder}"]
        with open(_said(folder), "ab") as said:
            return subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, env=child_environment(), start_new_session=True)

    def run(self, folder: Path, num_processes: int) -> None:
        """Train to the end. Raises: UserError with what it said where it fails."""
        if code := self._run_until(folder, num_processes, lambda: False):
            raise _failure(folder, code)

    def kill_after(self, num_steps: int, folder: Path, num_processes: int) -> int:
        """Train until the checkpoint of `num_steps` stands and steps go on, then SIGKILL everything; the step it stood at.

        Raises: UserError where training fails, or is done each time before it could be killed; or where something is there already.
        """
        files = RunFiles(folder, EXP_ID)
        if os.path.lexists(folder):
            raise foreign(folder)
        for _ in range(TRIES):
            shutil.rmtree(folder, ignore_errors=True)  # of the try before
            code = self._run_until(folder, num_processes, lambda: files.checkpoint_last.is_file() and steps_done(folder) > num_steps)
            if code == -signal.SIGKILL and steps_done(folder) < 2 * num_steps:
                return steps_done(folder)
            if code not in (0, -signal.SIGKILL):
                raise _failure(folder, code)
        raise UserError(f"{num_steps} steps are over before they can be interrupted; give more with --steps {4 * num_steps}")

    def _run_until(self, folder: Path, num_processes: int, enough: Callable[[], bool]) -> int:
        """Train until that is enough, then kill it; the exit code."""
        started = self._start(folder, num_processes)
        try:
            self._watch(started, folder, enough)
        finally:
            end_all(started)
        return started.returncode

    def _watch(self, started: "subprocess.Popen[bytes]", folder: Path, enough: Callable[[], bool]) -> None:
        told_s, told = time.monotonic(), steps_done(folder)
        while started.poll() is None and not enough():
            time.sleep(POLL_S)
            if time.monotonic() - told_s >= TELL_S:
                told_s, now = time.monotonic(), steps_done(folder)
                if now > told:
                    self.tell(f"  {now} steps done")
                told = now  # a run that goes on takes back the steps after its checkpoint


def _said(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.out")


def _failure(folder: Path, code: int) -> UserError:
    last = "\n".join(_said(folder).read_text(errors="replace").splitlines()[-LINES_PASSED_ON:])
    return UserError(f"mmaudio train ended with exit code {code} in {folder}; its last words were:\n{last}")


def steps_done(folder: Path) -> int:
    """The last step that a run wrote numbers of; 0 where there are none yet. The last line may be half written."""
    path, newest = folder / METRICS_FILE, 0
    for line in path.read_text(encoding="utf-8").split("\n")[:-1] if path.is_file() else ():
        newest = max(newest, int(json.loads(line)["steps_done"]))
    return newest


def end_all(started: "subprocess.Popen[bytes]") -> list[int]:
    """SIGKILL a process and all it started, whatever sessions these are in, and wait for it. Returns: their ids."""
    doomed = [started.pid, *_descendants(started.pid)] if started.poll() is None else []
    for pid in doomed:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    started.wait()
    return doomed


def _descendants(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text(errors="replace").rsplit(")", 1)[1].split()[1])
        except (OSError, IndexError):  # it has ended meanwhile
            continue
        children.setdefault(parent, []).append(int(stat.parent.name))
    found, waiting = [], [pid]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


# ---- The example stores, made by the guide's own commands where they are missing

STORES = Path("training/example_output/memmap")
LITE = ("--device", "cpu", "--backend", "lite")
MAKERS = {  # store, or the table that comes before it → the command that makes it
    STORES.parent / "clips.tsv": ("partition",),
    STORES / "audio-example.tsv": ("extract", "audio", *LITE),
    STORES / "vgg-example.tsv": ("extract", "video", *LITE),
}


def make_example_stores(tell: Callable[[str], None]) -> None:
    """Make what is missing below the working folder. Raises: UserError where a command fails."""
    if all(path.is_file() for path in list(MAKERS)[1:]):
        return
    for path, words in MAKERS.items():
        if path.is_file():
            continue
        command = f"mmaudio {' '.join(words)}"
        tell(f"making {path}: {command}")
        ended = subprocess.run(
            [sys.executable, "-m", "mmaudio", *words], env=child_environment(), capture_output=True, text=True, check=False
        )
        if ended.returncode:
            raise UserError(
                f"the example's data could not be made: {command} ended with exit code {ended.returncode}: {ended.stderr[-500:]}"
            )
