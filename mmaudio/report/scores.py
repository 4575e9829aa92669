"""A JSON file of scores → a column of the table, and the rows of its clips."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmaudio.base.errors import UserError
from mmaudio.report.content import Better, Clips, Column, Value
from mmaudio.report.metric_names import DIFFERENCE


@dataclass(frozen=True)
class Scores:
    """One file of scores: its column, and a row per clip as the file has it. `path` is where it lies."""

    path: Path
    column: Column
    clips: Sequence[Mapping[str, Any]]


def number_of(told: Any) -> float | None:
    """A finite number, or None for anything else."""
    is_number = isinstance(told, int | float) and not isinstance(told, bool) and math.isfinite(told)
    return float(told) if is_number else None


def read_scores(path: Path, label: str) -> Scores:
    """Read a file that scoring wrote. Raises: UserError for any other file, and for one of before scores had `metrics`."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        is_scores = isinstance(told["clips"], list) and isinstance(told["counts"], dict) and isinstance(told["protocol"], dict)
        if is_scores and all(isinstance(row["id"], str) for row in told["clips"]):
            if not all(isinstance(part.get("metrics"), dict) for part in (told, *told["clips"])):
                raise UserError(f"{path} holds scores of an older version, without metrics; evaluate anew")
            return Scores(path, Column(label, _values(told), _clips(told["counts"]), told["protocol"]), told["clips"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    raise UserError(f"{path} is no file of scores; mmaudio evaluate writes such files")


def _clips(counts: Mapping[str, Any]) -> Clips:
    missing = counts.get("missing_ids")
    paired, reference, failed = (_whole(counts.get(name, 0)) for name in ("paired", "reference", "failed"))
    return Clips(paired, reference, failed, len(missing) if isinstance(missing, list) else None)


def _whole(told: Any) -> int:
    """A count as it is. Raises: TypeError for anything else, which would go into the page as it stands."""
    if not isinstance(told, int) or isinstance(told, bool):
        raise TypeError(f"{told!r} is no count")
    return told


def _interval(told: Any) -> tuple[float, float] | None:
    ends = [number_of(end) for end in told] if isinstance(told, list) and len(told) == 2 else []
    return (ends[0], ends[1]) if ends and ends[0] is not None and ends[1] is not None else None


def _value(told: Mapping[str, Any]) -> Value:
    value = number_of(told["value"])
    reason = str(told.get("reason") or "no reason is told") if value is None else ""
    better: Better = told["better"] if told.get("better") in ("higher", "lower") else ""
    num = told.get("num")
    return Value(value, _interval(told.get("interval")), _unit(told), better, None if num is None else _whole(num), reason)


def _unit(told: Mapping[str, Any]) -> str:
    return str(told.get("unit") or "").replace("^2", "²")


def _values(told: Mapping[str, Any]) -> dict[str, Value]:
    values = {name: _value(entry) for name, entry in told["metrics"].items()}
    onsets, f1 = told.get("onset_f1"), values.get("onset_f1")
    if isinstance(onsets, dict) and f1 is not None:
        values[DIFFERENCE] = replace(_difference(onsets), better=f1.better)
    return values


def _difference(onsets: Mapping[str, Any]) -> Value:
    """By how much the onsets agree better than chance: its interval is in their own section, not among the metrics."""
    generated, shuffled = number_of(onsets.get("generated")), number_of(onsets.get("shuffled"))
    if generated is None or shuffled is None:
        return Value(None, reason=str(onsets.get("reason") or "there is nothing to compare with"))
    return Value(generated - shuffled, _interval(onsets.get("interval")))


def clip_numbers(row: Mapping[str, Any]) -> dict[str, float | None]:
    """Metrics of one clip by name."""
    return {name: number_of(value) for name, value in row["metrics"].items()}
