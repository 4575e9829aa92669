"""The file of scores: its shape, and whether two may be compared."""

import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmaudio.base.errors import UserError
from mmaudio.files.atomic import text_hash
from mmaudio.metrics.registry import Metric, metric_versions

# Parts of a protocol that have an entry for each metric or extractor: of these, what several results used has to be alike.
SHARED_ENTRIES = ("metrics", "judges")
ABSENT = "not told"  # in place of the value that a protocol does not have


def flat(protocol: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted name → value; an empty part is a value."""
    fields: dict[str, Any] = {}
    for name, value in protocol.items():
        fields |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) and value else {f"{prefix}{name}": value}
    return fields


def unlike_fields(protocols: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Dotted name of each field that keeps results from being compared → its value in every protocol, as JSON. Empty: comparable.

    A field that some protocols lack counts as unlike, but for the entries of `SHARED_ENTRIES`.
    """
    fields = [flat(protocol) for protocol in protocols]
    names = dict.fromkeys(name for told in fields for name in told)
    return {name: [_text(told, name) for told in fields] for name in names if not _is_alike(name, fields)}


def _is_alike(name: str, fields: Sequence[Mapping[str, Any]]) -> bool:
    values = [told[name] for told in fields if name in told]
    may_lack = name.split(".")[0] in SHARED_ENTRIES
    return (may_lack or len(values) == len(fields)) and all(value == values[0] for value in values)


def _text(fields: Mapping[str, Any], name: str) -> str:
    return json.dumps(fields[name], ensure_ascii=False) if name in fields else ABSENT


# ---- The shape of every result, whatever it was measured on; it is what files of scores hold

SCORES_KIND = "scores"  # of a file that holds a result, in its mark
FORMAT_VERSION = 1  # of the file; files of version 0.1 do not say one, and hold the same
PROTOCOL_VERSION = 1  # raised whenever a result comes to mean something else


def counted(reference: Collection[str], predicted: Collection[str]) -> dict[str, Any]:
    """How many ids there are on each side and on both, and which are on one side alone."""
    real, generated = set(reference), set(predicted)
    return {
        "reference": len(real),
        "predicted": len(generated),
        "paired": len(real & generated),
        "missing_ids": sorted(real - generated),
        "unexpected_ids": sorted(generated - real),
    }


def result(
    rows: Iterable[Metric],
    *,
    counts: Mapping[str, Any],
    metrics: Mapping[str, dict[str, Any]],
    clips: Sequence[dict[str, Any]],
    failed: Sequence[Mapping[str, str]] = (),
    sections: Mapping[str, Any] | None = None,
    protocol: Mapping[str, Any],
) -> dict[str, Any]:
    """One dictionary, ready for JSON.

    Args:
        rows: the metrics that were asked for.
        counts: as `counted`; pairs that failed are among its `paired`, and are taken off here.
        metrics: name → what `Metric.entry` gives.
        clips: a row for each clip, with its `id` and its own numbers as `metrics`.
        failed: id and reason of each pair that could not be scored.
        sections: what else there is to tell, by name.
        protocol: what two results must share to be compared, beside the version, the metrics' versions and the clips.
    """
    shared = {"version": PROTOCOL_VERSION, "metrics": metric_versions(rows), "ids_hash": text_hash(sorted(row["id"] for row in clips))}
    return {
        "format_version": FORMAT_VERSION,
        "counts": {**counts, "paired": counts["paired"] - len(failed), "failed": len(failed)},
        "metrics": dict(metrics),
        **(sections or {}),
        "clips": list(clips),
        "failed": list(failed),
        "protocol": {**shared, **protocol},
    }


def number_of(told: Any) -> float | None:
    """A finite number of a JSON file, or None for anything else."""
    try:
        is_number = isinstance(told, int | float) and not isinstance(told, bool) and math.isfinite(told)
    except OverflowError:  # a whole number beyond every float
        return None
    return float(told) if is_number else None


def check_version(told: Any, path: Path) -> None:
    """Raises: UserError for a file of scores that a later version of this program wrote."""
    version = told.get("format_version", FORMAT_VERSION) if isinstance(told, dict) else FORMAT_VERSION
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise UserError(f"{path} has format_version {version}, and this program reads up to {FORMAT_VERSION}: update mmaudio")


def is_result(told: Any) -> bool:
    """Whether a JSON file holds what `result` gives, as far as two are compared by it."""

    def is_value(value: Any) -> bool:
        return value is None or number_of(value) is not None

    if not isinstance(told, dict) or not isinstance(told.get("protocol"), dict):
        return False
    metrics, clips = told.get("metrics"), told.get("clips")
    if not isinstance(metrics, dict) or not all(isinstance(entry, dict) and is_value(entry.get("value")) for entry in metrics.values()):
        return False
    if not isinstance(clips, list) or not all(isinstance(row, dict) and isinstance(row.get("id"), str) for row in clips):
        return False
    numbers = [row.get("metrics", {}) for row in clips]
    return all(isinstance(own, dict) and all(map(is_value, own.values())) for own in numbers)


def metric_values(scores: Mapping[str, Any]) -> dict[str, float]:
    """Metric → value, of those of a result that can be told."""
    return {name: told["value"] for name, told in scores["metrics"].items() if told["value"] is not None}


def headline(scores: Mapping[str, Any]) -> str:
    """The numbers of a result in one line."""
    counts, duration_s = scores["counts"], scores["protocol"].get("duration_s")
    told = ", ".join(f"{name} {value:.4g}" for name, value in metric_values(scores).items())
    first = "" if duration_s is None else f", the first {duration_s:.3g} s of each"
    untold = [name for name, entry in scores["metrics"].items() if entry["value"] is None]
    others = len(counts["unexpected_ids"])
    left_out = f"; {others} more sound{'s' * (others > 1)} of no clip of the reference" if others else ""
    reasons = f"; not told, for the reasons in the file: {', '.join(untold)}" if untold and told else ""
    return f"{counts['paired']} of {counts['reference']} clips scored{first}: {told or 'nothing can be told'}{reasons}{left_out}"


def is_incomplete(scores: Mapping[str, Any], asked: Collection[str]) -> bool:
    """Whether clips are missing, failed or could not be judged, a metric that was asked for by its name cannot be told, or none can."""
    counts, metrics = scores["counts"], scores["metrics"]
    by_name = any(metrics[name]["value"] is None for name in asked if name in metrics)
    not_judged = any(scores.get("judged", {}).get("not_judged", {}).values())
    return bool(scores["failed"] or counts["missing_ids"] or not_judged or by_name or (metrics and not metric_values(scores)))


# ---- What a metric that has no number says of it


class MetricUnavailableError(Exception):
    """A number that cannot be told from what there is: one sentence with the reason, which the result carries beside a null."""
