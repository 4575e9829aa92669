"""What planned metrics are told from, and what of it is not here: judges with their packages and weights, or the package av_bench."""

from collections.abc import Sequence
from dataclasses import dataclass

from mmaudio.base.errors import Problems
from mmaudio.metrics.judges.table import judges_for
from mmaudio.metrics.registry import Metric, metrics_named


@dataclass(frozen=True)
class JudgePlan:
    """`lines`: metric and what tells it. `weights`: names of what the judges load. `sentences`: what is missing beside those."""

    lines: tuple[tuple[str, str], ...] = ()
    weights: tuple[str, ...] = ()
    needs_extra: bool = False
    sentences: tuple[str, ...] = ()


NO_JUDGES = JudgePlan()


def plan_judges(words: Sequence[str], engine: str, problems: Problems) -> JudgePlan:
    """What the metrics of these names, and groups of them, take. Names that there are none of go to `problems`."""
    rows = metrics_named(words, problems)
    if engine == "av_bench":
        from mmaudio.metrics.av_bench import check_av_bench

        missing = Problems()
        missing.check(check_av_bench)
        lines = tuple((row.name, "from sounds" if row.is_embedded else "by the package av_bench") for row in rows)
        return JudgePlan(lines, sentences=tuple(missing.sentences))
    judges = judges_for(stem for row in rows for stem in _stems(row))[0]
    weights = tuple(dict.fromkeys(name for judge in judges for name in judge.weights))
    needs_extra = any(judge.extra is not None for judge in judges)
    return JudgePlan(tuple((row.name, _told_from(row)) for row in rows), weights, needs_extra)


def _stems(row: Metric) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*row.predicted_stems, *row.reference_stems)))


def _told_from(row: Metric) -> str:
    """In words, where the features of a metric come from."""
    if row.is_embedded:
        return "from sounds"
    judges, others = judges_for(_stems(row))
    words = [f"by {judge.name}" for judge in judges]
    if others:
        words.append(f"from {', '.join(others)} of av-bench's own making, for which there is no judge here")
    return "; ".join(words)
