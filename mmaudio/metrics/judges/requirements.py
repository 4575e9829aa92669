"""Whether what judges take is here: their packages, and weights at the places that were named. Nothing is imported or fetched."""

from collections.abc import Iterable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from mmaudio.base.errors import Problems
from mmaudio.metrics.judges.table import Judge
from mmaudio.weights import check_place


def missing_package(judge: Judge) -> str | None:
    """The sentence for a judge whose package is not installed; None where nothing is missing."""
    if judge.package is None or find_spec(judge.package) is not None:
        return None
    return f"the judge {judge.name} needs the package {judge.package}, which is not installed; `pip install 'mmaudio[{judge.extra}]'`"


def needed_weights(judges: Iterable[Judge]) -> tuple[str, ...]:
    """Names of the weights that judges load, each once."""
    return tuple(dict.fromkeys(name for judge in judges for name in judge.weights))


def check_requirements(judges: Iterable[Judge], places: Mapping[str, str | Path], duration_s: float) -> None:
    """Raises: UserError with a sentence for each package that is missing, each wrong place, and sounds too short to be judged."""
    problems, judges = Problems(), tuple(judges)
    for judge in judges:
        if sentence := missing_package(judge):
            problems.add(sentence)
        if duration_s < judge.min_duration_s:
            problems.add(f"the judge {judge.name} takes at least {judge.min_duration_s} s; the duration is {duration_s:g} s")
    for name in needed_weights(judges):
        problems.check(partial(check_place, name, places.get(name)))
    problems.raise_any()
