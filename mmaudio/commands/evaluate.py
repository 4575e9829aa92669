"""`mmaudio evaluate`: numbers of a run or a model (key=value), of a folder of sounds (options), or of two results (`compare`)."""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmaudio.base.errors import Problems, UserError, nearest
from mmaudio.base.options import options_parser, parse_options
from mmaudio.files.atomic import parse_json
from mmaudio.files.owned_files import check_marked, write_marked
from mmaudio.settings.compose import CONFIG_DIR

if TYPE_CHECKING:
    import torch

    from mmaudio.distributed.ranks import Ranks
    from mmaudio.evaluation.evaluator import EvaluationPlan
    from mmaudio.metrics.comparison import ComparedMetric
    from mmaudio.settings.compose import ComposedCommand
    from mmaudio.settings.schema import BaseSettings

LOG_FILE = "evaluate.log"
CONFIG_NAME = "eval_config"
_KIND = "comparison"  # of a file that `compare` writes


def main(argv: Sequence[str]) -> int:
    if argv[:1] == ["compare"]:
        return _compare_action(argv[1:])
    if argv and not argv[0].startswith("-"):
        return evaluate_by_settings(argv)
    if any(word.split("=")[0] == "--generated_cache" for word in argv):
        from mmaudio.commands.evaluate_folder import score_caches as of_caches

        return of_caches(["--help"] if "--help" in argv else argv)
    from mmaudio.commands.evaluate_folder import main as of_folder

    return of_folder(argv)


# ---- evaluate.py and `mmaudio evaluate key=value`: the command line understood, checked, and done


def evaluate_by_settings(argv: Sequence[str]) -> int:
    """Evaluate as the words say; returns the exit code. Raises: UserError with every mistake in them."""
    from mmaudio.distributed.ranks import read_ranks, watch_launcher
    from mmaudio.runs.saved_settings import completed_by_run
    from mmaudio.settings.compose import read_command, show
    from mmaudio.settings.schema import EvalSettings

    ranks, problems = read_ranks(), Problems()
    watch_launcher(ranks)
    command = read_command(argv, EvalSettings, CONFIG_DIR, CONFIG_NAME, _needs_a_name, problems, complete=completed_by_run)
    if command.only_shows:
        problems.raise_any()
        show(command, CONFIG_NAME)
        return 0
    _check_run(command, problems)
    from mmaudio.distributed.devices import pick_device
    from mmaudio.evaluation.evaluator import plan_evaluation

    device = problems.check(lambda: pick_device(command.settings.device, ranks))
    plan = plan_evaluation(command.settings, command.run_dir, problems)
    problems.raise_any()
    assert plan is not None
    assert device is not None
    for note in command.notes if ranks.is_first else ():
        print(f"note: {note}", flush=True)
    if ranks.is_first:
        command.write_record()
    return _evaluate(plan, ranks, device)


def _needs_a_name(_: "BaseSettings") -> str:
    raise UserError("exp_id is null; give exp_id=NAME, a run in output/, or leave it out for a published model")


def _check_run(command: "ComposedCommand", problems: Problems) -> None:
    """Add a sentence where exp_id names no run and nothing says that it is a published model's: most likely it is misspelt."""
    from mmaudio.runs.saved_settings import is_run

    says_which = {"model", "weights"} & set(command.given)
    if "exp_id" in command.given and not says_which and not is_run(command.run_dir):
        there = sorted(path.name for path in command.run_dir.parent.glob("*") if is_run(path))
        hint = nearest(command.run_dir.name, there)
        problems.add(f"no run at {command.run_dir}{hint}; for a published model say which: model=NAME, or give weights=FILE")


def _evaluate(plan: "EvaluationPlan", ranks: "Ranks", device: "torch.device") -> int:
    from mmaudio.base.logs import start_logging
    from mmaudio.distributed.collectives import UNEVEN_WORK_TIMEOUT, process_group
    from mmaudio.distributed.devices import set_threads
    from mmaudio.evaluation.evaluator import evaluate
    from mmaudio.trainer.model_settings import set_backend_flags

    start_logging(ranks.rank, plan.run_dir / LOG_FILE)
    set_threads(ranks)
    set_backend_flags(plan.settings)
    with process_group(ranks, device, UNEVEN_WORK_TIMEOUT):
        return evaluate(plan, ranks, device)


# ---- `mmaudio evaluate compare A.json B.json`: two files of scores side by side; unlike protocols are refused


def _compare_action(argv: Sequence[str]) -> int:
    problems = Problems()
    options = parse_options(_compare_parser(), argv, problems)
    a, b = (problems.check(partial(_read, Path(path))) for path in (options.a, options.b))
    if options.output is not None and Path(options.output).suffix != ".json":
        problems.add(f"--output is {options.output}; want a .json file")
    if options.output is not None:
        problems.check(lambda: check_marked(Path(options.output), _KIND, advice="name another file: --output"))
    problems.raise_any()
    assert a is not None
    assert b is not None
    from mmaudio.metrics.comparison import compare_scores

    passed = [name.strip() for name in options.but.split(",") if name.strip()]
    rows = compare_scores(_without(a, passed, b), _without(b, passed, a))
    if passed:
        print(f"not compared, for --but: {', '.join(passed)}")
    print(_table(rows, options.a, options.b))
    if options.output is not None:
        told = {"a": options.a, "b": options.b, "passed_over": passed, "metrics": [vars(row) for row in rows]}
        write_marked(Path(options.output), told, _KIND, f"{options.a} {options.b}")
    return 0


def _compare_parser() -> argparse.ArgumentParser:
    example = "mmaudio evaluate compare output/a/test-output_metrics.json output/b/test-output_metrics.json"
    about = "Hold two files of scores side by side. Scores that were not measured alike are refused, with what differs."
    parser = options_parser("mmaudio evaluate compare", about, example)
    parser.add_argument("a", help="scores that mmaudio evaluate or evaluate.py wrote")
    parser.add_argument("b", help="the same of another model")
    parser.add_argument("--but", default="", help="fields of the protocol that may differ, between commas, such as decoder (it is said)")
    parser.add_argument("--output", default=None, help="JSON file of the comparison")
    return parser


def _read(path: Path) -> dict[str, Any]:
    """Raises: UserError for a file that holds no scores."""
    from mmaudio.metrics.results import check_version, is_result

    if not path.is_file():
        raise UserError(f"no file at {path}; mmaudio evaluate and evaluate.py write scores")
    try:
        scores = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        scores = None
    check_version(scores, path)
    if not is_result(scores):
        raise UserError(f"{path} holds no scores of this version; evaluate anew")
    return dict(scores)


def _without(scores: dict[str, Any], passed: Sequence[str], other: dict[str, Any]) -> dict[str, Any]:
    """The same scores but for some fields of their protocol. Raises: UserError for a field that neither has."""
    known = [*scores["protocol"], *other["protocol"]]
    for name in passed:
        if name not in known:
            raise UserError(f"--but names {name!r}, which is no field of the protocol{nearest(name, known)}; there are {', '.join(known)}")
    return {**scores, "protocol": {name: value for name, value in scores["protocol"].items() if name not in passed}}


def _table(rows: "Sequence[ComparedMetric]", a: str, b: str) -> str:
    lines = [f"a: {a}", f"b: {b}", "", f"{'metric':<20} {'better':<7} {'a':>10} {'b':>10} {'b - a':>10}  95 % interval of the difference"]
    for row in rows:
        numbers = " ".join(f"{_text(value):>10}" for value in (row.a, row.b, row.difference))
        sure = f"{row.interval[0]:.4g} to {row.interval[1]:.4g}, {row.num_clips} clips" if row.interval else row.note or ""
        lines.append(f"{row.name:<20} {row.better:<7} {numbers}  {sure}")
    return "\n".join(lines)


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
