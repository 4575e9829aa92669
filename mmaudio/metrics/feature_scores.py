"""Two folders of cached features → the numbers asked for, each with an interval, or null with a reason.

Features of any source will do, av-benchmark's own among them; its numbers come out (its pairing rules, formulas and parts of sets).
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmaudio.base.errors import Problems, UserError, named
from mmaudio.metrics.feature_cache import PairedCaches, Side
from mmaudio.metrics.formulas import FORMULAS, MetricOptions, MetricValue
from mmaudio.metrics.registry import Metric, metrics_named
from mmaudio.metrics.results import MetricUnavailableError

if TYPE_CHECKING:
    from torch import Tensor

    from mmaudio.encoders import SyncHead

log = logging.getLogger(__name__)
SyncWeights = Path | Callable[[], "Mapping[str, Tensor]"] | None


@dataclass(frozen=True)
class MeasuredMetrics:
    """Numbers on cached features, ready for JSON.

    `values`: metric → `Metric.entry`, with the reason where the value is null. `per_clip`: metric → id → number, of
    metrics that have one for each clip. `counts`: reference, predicted, paired, missing_ids, unexpected_ids, and
    without_features: "reference/<file>" or "predicted/<file>" → ids of its side that it lacks.
    """

    values: dict[str, dict[str, Any]]
    per_clip: dict[str, dict[str, float]]
    counts: dict[str, Any]


def _rows(names: Sequence[str]) -> list[Metric]:
    problems = Problems()
    rows = metrics_named(names, problems)
    for row in rows:
        if row.is_embedded:
            problems.add(f"{row.name} is computed from sounds, not from cached features; leave it to the embedded evaluation")
    problems.raise_any()
    return rows


def _ids_by_file(rows: Sequence[Metric], sides: PairedCaches) -> dict[tuple[Side, str], set[str]]:
    """(side, file) → the clips it has, of the files that the metrics need and that can be read."""
    needed: dict[tuple[Side, str], None] = {}
    for row in rows:
        needed |= {("reference", stem): None for stem in row.reference_stems} | {("predicted", stem): None for stem in row.predicted_stems}
    found = {}
    for side, stem in needed:
        try:
            found[side, stem] = set(sides.features(side, stem))
        except MetricUnavailableError as error:
            log.warning("%s", error)
    return found


def _counts(by_file: Mapping[tuple[Side, str], set[str]], ids: Sequence[str] | None) -> dict[str, Any]:
    sets: dict[Side, set[str]] = {"reference": set(), "predicted": set()}
    for (side, _), found in by_file.items():
        sets[side] |= found
    lacking = {f"{side}/{stem}": sorted(sets[side] - found) for (side, stem), found in by_file.items() if sets[side] - found}
    for name, clips in lacking.items():
        log.warning("%d clips have no features in %s: %s", len(clips), name, named(clips))
    reference = sets["reference"] if ids is None else set(ids)
    return {
        "reference": len(reference),
        "predicted": len(sets["predicted"]),
        "paired": len(sets["reference"] & sets["predicted"]),
        "missing_ids": sorted(reference - (sets["reference"] & sets["predicted"])),
        "unexpected_ids": sorted(sets["predicted"] - sets["reference"]),
        "without_features": lacking,
    }


def _check_coverage(counts: Mapping[str, Any], min_coverage: float) -> None:
    if counts["paired"] < min_coverage * counts["reference"]:
        raise UserError(
            f"{counts['paired']} of {counts['reference']} reference clips are paired with one of the {counts['predicted']} predicted"
            f" (missing are {named(counts['missing_ids'])}), and a share of at least {min_coverage:g} is wanted; generate and extract"
            " the missing ones, or ask for less coverage"
        )


def _head_loader(weights: SyncWeights, device: str) -> Callable[[], "SyncHead"]:
    """Loads the comparison head, when it is asked for."""

    def load() -> "SyncHead":
        from mmaudio.encoders import load_sync_head
        from mmaudio.files.tensor_files import read_state_dict

        if weights is None:
            raise MetricUnavailableError(
                "DeSync needs Synchformer's weights (synchformer_state_dict.pth), and none were named; fetch them, or name them"
            )
        return load_sync_head(read_state_dict(weights) if isinstance(weights, Path) else weights()).to(device)

    return load


def _tell(row: Metric, sides: PairedCaches, conditions: MetricOptions) -> MetricValue | str:
    """A metric's number, or why there is none."""
    try:
        told = FORMULAS[row.formula](row, sides, conditions)
    except MetricUnavailableError as error:
        return str(error)
    return told if math.isfinite(told.value) else f"{row.name} came out as {told.value}; look at the features"


def _entry(row: Metric, told: MetricValue | str) -> dict[str, Any]:
    return row.entry(None, reason=told) if isinstance(told, str) else row.entry(told.value, interval=told.interval, num=told.num)


def measure(
    names: Sequence[str],
    reference_dirs: Path | Sequence[Path],
    predicted_dir: Path,
    *,
    ids: Sequence[str] | None = None,
    paired: bool = True,
    min_coverage: float = 0.0,
    device: str = "cpu",
    sync_weights: SyncWeights = None,
    clean_names: bool = False,
) -> MeasuredMetrics:
    """Compare cached features.

    Args:
        names: metrics on cached features, or their group, `av_bench`. Only the files and weights that these need are read.
        reference_dirs: cache folder of the real clips, or several; each file is read from the first that has it.
        predicted_dir: cache folder of the generated ones.
        ids: the clips of the evaluation set, all that the folders have if None. An id is matched exactly, whatever it looks like.
        paired: whether a clip of one side belongs to the one of the same id on the other.
        min_coverage: the share of reference clips that have to be paired, in [0, 1]; with fewer there is no result, and a metric
            whose own files pair fewer is null.
        device: where Synchformer's head compares.
        sync_weights: the published file, or what gives its tensors when called; for DeSync alone.
        clean_names: shorten the names of predicted clips by their length, as av-benchmark does for old caches.
    Returns: for each metric a number, or null and the reason.
    Raises: UserError for names that are no such metrics, no folder, too few pairs, or weights that are not Synchformer's.
    """
    rows = _rows(names)
    reference = [reference_dirs] if isinstance(reference_dirs, Path) else list(reference_dirs)
    if not any(folder.is_dir() for folder in reference):
        raise UserError(f"no folder of cached features at {' or '.join(map(str, reference))}; extract features first")
    if not predicted_dir.is_dir():
        raise UserError(f"no folder of cached features at {predicted_dir}; extract features first")
    if isinstance(sync_weights, Path) and any(row.formula == "desync" for row in rows) and not sync_weights.is_file():
        raise UserError(f"no file of Synchformer's weights at {sync_weights}; fetch them, or name where they are")
    sides = PairedCaches(reference, predicted_dir, ids, clean_names=clean_names)
    by_file = _ids_by_file(rows, sides)
    counts = _counts(by_file, ids)
    min_pairs = 0
    if paired and any(row.reference_stems for row in rows):
        if {side for side, _ in by_file} == {"reference", "predicted"}:  # else each metric says what cannot be read
            _check_coverage(counts, min_coverage)
        min_pairs = math.ceil(min_coverage * counts["reference"])
    conditions = MetricOptions(paired, min_pairs, device, _head_loader(sync_weights, device))
    told = {row: _tell(row, sides, conditions) for row in rows}
    for row, outcome in told.items():
        if isinstance(outcome, str):
            log.warning("no %s: %s", row.name, outcome)
    per_clip = {row.name: dict(outcome.per_clip) for row, outcome in told.items() if isinstance(outcome, MetricValue) and outcome.per_clip}
    return MeasuredMetrics({row.name: _entry(row, outcome) for row, outcome in told.items()}, per_clip, counts)
