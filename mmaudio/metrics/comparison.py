"""Two results of evaluation → how they differ, metric by metric, and how sure a difference is. Unlike protocols are refused."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmaudio.base.errors import UserError
from mmaudio.metrics.intervals import bootstrap_interval
from mmaudio.metrics.results import unlike_fields


@dataclass(frozen=True)
class ComparedMetric:
    """One metric of two results.

    `difference` is b - a; `interval` the 95 % bootstrap interval of its mean over the clips, where both results have a number for
    each of the same clips. `note` says why there is no difference or no interval.
    """

    name: str
    unit: str
    better: str
    a: float | None
    b: float | None
    difference: float | None
    interval: tuple[float, float] | None
    num_clips: int  # that the interval rests on
    note: str | None


def _of(scores: Mapping[str, Any], part: str, kind: type, words: str) -> Any:
    value = scores.get(part)
    if not isinstance(value, kind):
        raise UserError(f"{words} result has no {part}, so it is no result of this evaluation or of an older one; evaluate anew")
    return value


def check_alike(a: Mapping[str, Any], b: Mapping[str, Any]) -> None:
    """Whether two results may be compared. Raises: UserError, one sentence for each field of the protocols that differs."""
    unlike = unlike_fields([_of(a, "protocol", Mapping, "the first"), _of(b, "protocol", Mapping, "the second")])
    if unlike:
        sentences = (f"{name} is {ours} in the first result and {theirs} in the second" for name, (ours, theirs) in unlike.items())
        raise UserError(*(f"{sentence}; evaluate both alike to compare them" for sentence in sentences))


def _clip_values(scores: Mapping[str, Any], name: str) -> dict[str, float]:
    """Id → a clip's own number of a metric, of the clips that have one."""
    found = {clip["id"]: clip.get("metrics", {}).get(name) for clip in scores.get("clips") or []}
    return {clip_id: float(value) for clip_id, value in found.items() if value is not None}


def _paired_interval(a: Mapping[str, float], b: Mapping[str, float], seed: int) -> tuple[tuple[float, float] | None, str | None]:
    if not a or not b:
        return None, "it has no number for each clip, so a difference has no interval"
    if a.keys() != b.keys():
        return None, f"{len(a.keys() ^ b.keys())} clips have a number in one result alone"
    if len(a) < 2:
        return None, "only one clip has a number"
    return bootstrap_interval(np.array([b[clip_id] - a[clip_id] for clip_id in sorted(a)]), seed), None


def _why_none(entry: Mapping[str, Any] | None, which: str) -> str:
    return f"not measured in the {which} result" if entry is None else f"none in the {which}: {entry.get('reason', 'no reason given')}"


def _row(name: str, a: Mapping[str, Any], b: Mapping[str, Any], seed: int) -> ComparedMetric:
    entries = a["metrics"].get(name), b["metrics"].get(name)
    known = next(entry for entry in entries if entry is not None)
    words = (known.get("unit", ""), known.get("better", ""))
    value_a, value_b = (None if entry is None else entry.get("value") for entry in entries)
    if value_a is None or value_b is None:
        which = 0 if value_a is None else 1
        return ComparedMetric(name, *words, value_a, value_b, None, None, 0, _why_none(entries[which], ("first", "second")[which]))
    clips_a, clips_b = _clip_values(a, name), _clip_values(b, name)
    interval, note = _paired_interval(clips_a, clips_b, seed)
    return ComparedMetric(name, *words, value_a, value_b, value_b - value_a, interval, len(clips_a) if interval else 0, note)


def compare_scores(a: Mapping[str, Any], b: Mapping[str, Any], seed: int = 0) -> list[ComparedMetric]:
    """Every metric that either of two results has, in the order of the first.

    Args:
        a, b: what `mmaudio evaluate` wrote. Their `protocol` has to be alike in every field; of `metrics` and `judges`
            only in what both have.
        seed: of the intervals.
    Raises: UserError naming each field of the protocols that differs, with both values, or for a file of something else.
    """
    check_alike(a, b)
    names = [*_of(a, "metrics", Mapping, "the first"), *_of(b, "metrics", Mapping, "the second")]
    return [_row(name, a, b, seed) for name in dict.fromkeys(names)]
