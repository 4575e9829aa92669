"""`mmaudio evaluate compare A.json B.json`: two files of scores side by side; unlike protocols are refused."""

import argparse
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmaudio.base.errors import Problems, UserError, nearest
from mmaudio.base.marked_files import check_marked, write_marked
from mmaudio.base.options import options_parser, parse_options

if TYPE_CHECKING:
    from mmaudio.metrics.comparison import ComparedMetric


_KIND = "comparison"


def _parser() -> argparse.ArgumentParser:
    example = "mmaudio evaluate compare output/a/test-output_metrics.json output/b/test-output_metrics.json"
    about = "Hold two files of scores side by side. Scores that were not measured alike are refused, with what differs."
    parser = options_parser("mmaudio evaluate compare", about, example)
    parser.add_argument("a", help="scores that mmaudio evaluate or evaluate.py wrote")
    parser.add_argument("b", help="the same of another model")
    parser.add_argument("--but", default="", help="fields of the protocol that may differ, between commas, such as decoder (it is said)")
    parser.add_argument("--output", default=None, help="JSON file of the comparison")
    return parser


def main(argv: Sequence[str]) -> int:
    problems = Problems()
    options = parse_options(_parser(), argv, problems)
    a, b = (problems.check(partial(_read, Path(path))) for path in (options.a, options.b))
    if options.output is not None and Path(options.output).suffix != ".json":
        problems.add(f"--output is {options.output}; want a .json file")
    if options.output is not None:
        problems.check(lambda: check_marked(Path(options.output), _KIND, advice="name another file: --output"))
    problems.raise_any()
    assert a is not None
    assert b is not None
    from mmaudio.metrics.comparison import compare

    passed = [name.strip() for name in options.but.split(",") if name.strip()]
    rows = compare(_without(a, passed, b), _without(b, passed, a))
    if passed:
        print(f"not compared, for --but: {', '.join(passed)}")
    print(_table(rows, options.a, options.b))
    if options.output is not None:
        told = {"a": options.a, "b": options.b, "passed_over": passed, "metrics": [vars(row) for row in rows]}
        write_marked(Path(options.output), told, _KIND, f"{options.a} {options.b}")
    return 0


def _read(path: Path) -> dict[str, Any]:
    """Raises: UserError for a file that holds no scores."""
    if not path.is_file():
        raise UserError(f"no file at {path}; mmaudio evaluate and evaluate.py write scores")
    try:
        scores = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        scores = None
    if not isinstance(scores, dict) or not {"metrics", "clips", "protocol"} <= scores.keys():
        raise UserError(f"{path} holds no scores of this version; evaluate anew")
    return scores


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
