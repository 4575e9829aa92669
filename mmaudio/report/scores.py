"""A JSON file of scores → a column of the table, and the rows of its clips. Files of before `metrics` was in them are read too."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmaudio.base.errors import UserError
from mmaudio.report.content import Better, Clips, Column, Value
from mmaudio.report.metric_names import BETTER, DIFFERENCE

NOT_COMPARED = ("num_ids",)  # fields of a protocol that may differ: the ids themselves are compared by their hash
SHARED_ENTRIES = ("metrics", "judges")  # have an entry for each metric or judge: of these, what several columns used has to be alike
ABSENT = "not told"


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
    """Read a file that scoring wrote. Raises: UserError for any other file."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        is_scores = isinstance(told["clips"], list) and isinstance(told["counts"], dict) and isinstance(told["protocol"], dict)
        if is_scores and all(isinstance(row["id"], str) for row in told["clips"]):
            column = Column(label, _values(told), _clips(told["counts"]), told["protocol"])
            return Scores(path, column, told["clips"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    raise UserError(f"{path} is no file of scores; mmaudio evaluate writes such files")


def _clips(counts: Mapping[str, Any]) -> Clips:
    left_out = [len(counts[key]) if isinstance(counts.get(key), list) else None for key in ("missing_ids", "unexpected_ids")]
    return Clips(counts["paired"], counts["reference"], counts.get("failed", 0), *left_out)


def _interval(told: Any) -> tuple[float, float] | None:
    ends = [number_of(end) for end in told] if isinstance(told, list) and len(told) == 2 else []
    return (ends[0], ends[1]) if ends and ends[0] is not None and ends[1] is not None else None


def _value(name: str, told: Mapping[str, Any]) -> Value:
    value = number_of(told["value"])
    reason = str(told.get("reason") or "no reason is told") if value is None else ""
    better: Better = BETTER.get(name, told["better"] if told.get("better") in ("higher", "lower") else "")
    return Value(value, _interval(told.get("interval")), _unit(told), better, told.get("num"), reason)


def _unit(told: Mapping[str, Any]) -> str:
    return str(told.get("unit") or "").replace("^2", "²")


def _values(told: Mapping[str, Any]) -> dict[str, Value]:
    listed = {name: _value(name, entry) for name, entry in told["metrics"].items()} if "metrics" in told else _from_sections(told)
    onsets = told.get("onset_f1")
    if isinstance(onsets, dict):
        listed[DIFFERENCE] = _difference(onsets)
    return listed


def _difference(onsets: Mapping[str, Any]) -> Value:
    generated, shuffled = number_of(onsets.get("generated")), number_of(onsets.get("shuffled"))
    if generated is None or shuffled is None:
        return Value(None, better="higher", reason=str(onsets.get("reason") or "there is nothing to compare with"))
    return Value(generated - shuffled, _interval(onsets.get("interval")), better="higher")


def _from_sections(told: Mapping[str, Any]) -> dict[str, Value]:
    """The metrics of a file that has a section for each of them instead."""
    onsets, spectral, frechet = told["onset_f1"], told["spectral_distance"], told["mel_frechet"]
    reason = onsets.get("reason")
    no_onset = "no onset of a generated sound agrees with a real one"
    entries = {
        "onset_f1": {"value": onsets["generated"], "better": "higher"},
        "onset_f1_shuffled": {"value": onsets["shuffled"], "reason": reason},
        "onset_offset": {"value": onsets["mean_offset_s"], "unit": "s", "reason": no_onset},
        "spectral_distance": {"value": spectral["mean"], "unit": spectral.get("unit", "dB"), "better": "lower"},
        "mel_frechet": {"unit": "dB²", **frechet, "better": "lower"},
    }
    return {name: _value(name, entry) for name, entry in entries.items()}


def clip_numbers(row: Mapping[str, Any]) -> dict[str, float | None]:
    """Metrics of one clip by name, whichever of the two ways the row has them."""
    listed = row.get("metrics")
    if not isinstance(listed, dict):
        listed = {
            "onset_f1": row.get("onset_f1"),
            "onset_offset": row.get("mean_offset_s"),
            "spectral_distance": row.get("spectral_distance"),
        }
    return {name: number_of(value) for name, value in listed.items()}


def _flat(told: Mapping[str, Any], above: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in told.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{above}{name}.")
        elif name not in NOT_COMPARED:
            flat[f"{above}{name}"] = json.dumps(value, ensure_ascii=False)
    return flat


def unlike_fields(columns: Sequence[Column]) -> dict[str, list[str]]:
    """Dotted name of each field in which the columns' protocols differ → its value in every column. Empty: comparable."""
    flat = [_flat(column.protocol) for column in columns]
    names = dict.fromkeys(name for protocol in flat for name in protocol)
    values = {name: [protocol.get(name, ABSENT) for protocol in flat] for name in names}
    return {name: told for name, told in values.items() if _is_unlike(name, told)}


def _is_unlike(name: str, told: Sequence[str]) -> bool:
    return len(set(told) - {ABSENT} if name.split(".")[0] in SHARED_ENTRIES else set(told)) > 1
