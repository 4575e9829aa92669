"""`mmaudio verify-resume`: whether a run that is killed and resumed ends as one that is not, by train.py itself."""

import argparse
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmaudio.base.errors import Problems, UserError
from mmaudio.base.options import options_parser
from mmaudio.commands.entry_points import TRAIN_SCRIPT

if TYPE_CHECKING:
    from mmaudio.commands.verify_resume.runs import TrainCommand

OUTPUT = Path("output")


def _parser() -> argparse.ArgumentParser:
    example = (
        "mmaudio verify-resume\n  mmaudio verify-resume --steps 20 --processes 2 --other_processes 4 'data.train=[birds]' … device=cuda"
    )
    what = "Trains 2N steps straight, and N, killed, and N more; compares the ends. Settings as for train.py (default: a small example)."
    parser = options_parser("mmaudio verify-resume", what, example)
    parser.usage = "mmaudio verify-resume [--steps N] [--processes P] [--other_processes Q] [key=value …]"
    parser.add_argument("--steps", type=int, default=5, help="N (default 5)")
    parser.add_argument("--processes", type=int, default=1, help="P, of the straight run and the killed one (default 1)")
    parser.add_argument("--other_processes", type=int, default=2, help="Q, that go on in its place; P for no such run (default 2)")
    return parser


def main(argv: Sequence[str]) -> int:
    options, words = _parser().parse_known_args(argv)
    problems = Problems()
    for name in ("steps", "processes", "other_processes"):
        if getattr(options, name) < 1:
            problems.add(f"--{name} is {getattr(options, name)}; want at least 1")
    if not TRAIN_SCRIPT.is_file():
        problems.add(f"no train.py at {TRAIN_SCRIPT}: run from the repository, installed by `pip install -e .`")
    problems.raise_any()
    from mmaudio.commands.verify_resume.runs import TrainCommand, is_own_data, train_words

    command = TrainCommand(train_words(words, options.steps, (options.processes, options.other_processes), problems), _say)
    problems.raise_any()
    if not is_own_data(words):
        from mmaudio.commands.verify_resume.example import make_example_stores

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


def _compare_runs(command: "TrainCommand", place: Path, options: argparse.Namespace) -> bool:
    from mmaudio.commands.verify_resume.comparison import TOLERANCE, compare, verdict
    from mmaudio.commands.verify_resume.runs import EXP_ID

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
        found = compare(straight, resumed, EXP_ID, tolerance)
        _say(f"{_processes(count)}: {verdict(found, tolerance)}")
        on_gpu = not any(word == "device=cpu" for word in command.words)
        if found.first is not None and tolerance == 0 and on_gpu:
            _say("  (on a GPU some sums have no fixed order, so bits may differ; held against the tolerance instead)")
            found, tolerance = compare(straight, resumed, EXP_ID, TOLERANCE), TOLERANCE
            _say(f"{_processes(count)}: {verdict(found, tolerance)}")
        holds = holds and found.first is None
    return holds


def _processes(count: int) -> str:
    return f"{count} process{'es'[: 2 * (count != 1)]}"


def _say(line: str) -> None:
    print(line, flush=True)
