"""How each metric on cached features is computed: which clips' features, which formula, and how sure the number is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mmaudio.metrics.bands import Floats
from mmaudio.metrics.class_scores import SPLITS, inception_scores, kl_divergences
from mmaudio.metrics.desync import absolute_offsets, check_segments
from mmaudio.metrics.distances import FEWEST_ITEMS, cosines, frechet_of_rows
from mmaudio.metrics.intervals import bootstrap_interval, redrawn, spread_interval
from mmaudio.metrics.registry import Metric
from mmaudio.metrics.sides import Side, Sides, stack
from mmaudio.metrics.untellable import UntellableError

if TYPE_CHECKING:
    from mmaudio.encoders import SyncHead

Interval = tuple[float, float]

# Scores of a whole set have to be computed anew for each draw. With 512 clips and 2048 dims that takes a minute or so on two cores.
FEWEST_REDRAWN, MOST_REDRAWN, NUM_REDRAWS = 10, 512, 200
SEED = 0  # of all draws
_ONE_MODEL = "make both by one model"


@dataclass(frozen=True)
class Conditions:
    """What holds for all metrics of one measurement."""

    paired: bool
    min_pairs: int  # fewer give no number
    device: str
    sync_head: Callable[[], "SyncHead"]  # loads it


@dataclass(frozen=True)
class Told:
    """A metric's number, how many clips it rests on, its 95 % interval where one can be told, and each clip's own number."""

    value: float
    num: int
    interval: Interval | None = None
    per_clip: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Rows:
    """Features of a set: (rows, dims), and the number of the clip each row is of."""

    values: Floats
    clip_of_row: npt.NDArray[np.int64]
    ids: tuple[str, ...]

    def drawn(self, counts: npt.NDArray[np.int64]) -> Floats:
        """The rows of clips, each as often as its clip was drawn."""
        return self.values[np.repeat(np.arange(len(self.values)), counts[self.clip_of_row])]

    def num_drawn(self, counts: npt.NDArray[np.int64]) -> int:
        """How many rows those are."""
        return int(counts[self.clip_of_row].sum())


def _part(value: Any, metric: Metric) -> Any:
    return value[metric.part] if metric.part else value


def _pairs(metric: Metric, sides: Sides, conditions: Conditions) -> list[str]:
    """Ids of the clips a metric compares. Raises: UntellableError if there are none, too few, or pairs mean nothing."""
    assert metric.reference_stem is not None and metric.predicted_stem is not None, "a metric of pairs has two kinds of features"
    if not conditions.paired:
        raise UntellableError(f"{metric.name} compares clip by clip, and the two sets are compared unpaired; measure them paired")
    ids = sides.pairs(metric.reference_stem, metric.predicted_stem)
    if len(ids) < conditions.min_pairs:
        raise UntellableError(
            f"only {len(ids)} clips have both {metric.reference_stem} and {metric.predicted_stem}, and at least {conditions.min_pairs} are"
            " wanted; make the missing features, or ask for less coverage"
        )
    return ids


def _sets(metric: Metric, sides: Sides, conditions: Conditions, *which: Side) -> list[dict[str, Any]]:
    """The clips of a set metric on each side: those of pairs if its scope says so, else all."""
    stems = {"reference": metric.reference_stem, "predicted": metric.predicted_stem}
    found = [sides.features(side, str(stems[side])) for side in which]
    if metric.scope == "paired subset" and conditions.paired:
        ids = _pairs(metric, sides, conditions)
        found = [{clip_id: features[clip_id] for clip_id in ids} for features in found]
    return found


def _rows(metric: Metric, features: Mapping[str, Any]) -> Rows:
    """Sorted by id, so that rows of the same clips have the same numbers on both sides."""
    ids = tuple(sorted(features))
    of_clip = [np.atleast_2d(_part(features[clip_id], metric).numpy()) for clip_id in ids]
    sizes = [len(rows) for rows in of_clip]
    return Rows(np.concatenate(of_clip).astype(np.float64), np.repeat(np.arange(len(ids)), sizes), ids)


def frechet(metric: Metric, sides: Sides, conditions: Conditions) -> Told:
    """Fréchet distance of all rows of both sides."""
    reference, predicted = (_rows(metric, features) for features in _sets(metric, sides, conditions, "reference", "predicted"))
    _check_rows(reference, predicted)
    value = frechet_of_rows(predicted.values, reference.values)
    return Told(value, len(predicted.ids), _frechet_interval(value, reference, predicted, conditions))


def _check_rows(reference: Rows, predicted: Rows) -> None:
    """Raises: UntellableError for a set that has no spread, and for sets of features of two models."""
    for words, rows in (("the reference", reference), ("what was predicted", predicted)):
        if len(rows.values) < FEWEST_ITEMS:
            raise UntellableError(f"{words} has {len(rows.values)} vectors; the spread of a set needs at least {FEWEST_ITEMS}")
    widths = [rows.values.shape[1] for rows in (reference, predicted)]
    if widths[0] != widths[1]:
        raise UntellableError(f"vectors have {widths[0]} dims in the reference and {widths[1]} in what was predicted; {_ONE_MODEL}")


def _frechet_interval(value: float, reference: Rows, predicted: Rows, conditions: Conditions) -> Interval | None:
    """Clips are drawn again, on both sides the same ones where both have the same."""
    sizes = [len(rows.ids) for rows in (reference, predicted)]
    if min(sizes) < FEWEST_REDRAWN or max(sizes) > MOST_REDRAWN:
        return None
    together = conditions.paired and reference.ids == predicted.ids
    drawn = list(redrawn(sizes[0], SEED, NUM_REDRAWS))
    of_predicted = drawn if together else list(redrawn(sizes[1], SEED + 1, NUM_REDRAWS))
    if any(rows.num_drawn(counts) < FEWEST_ITEMS for rows, draws in ((reference, drawn), (predicted, of_predicted)) for counts in draws):
        return None  # most clips have no vector at all
    values = [frechet_of_rows(predicted.drawn(b), reference.drawn(a)) for a, b in zip(drawn, of_predicted, strict=True)]
    low, high = spread_interval(value, values)
    return max(0.0, low), high


def _inception(metric: Metric, sides: Sides, conditions: Conditions) -> tuple[Floats, Floats]:
    """The predicted clips' logits, in their file's order, and the score of each part of them.

    Raises: UntellableError for fewer clips than parts.
    """
    (predicted,) = _sets(metric, sides, conditions, "predicted")
    logits_nc = stack([_part(value, metric) for value in predicted.values()])
    if len(logits_nc) < SPLITS:
        raise UntellableError(f"an inception score of {SPLITS} splits needs at least {SPLITS} clips; there are {len(logits_nc)}")
    return logits_nc, inception_scores(logits_nc)


def inception_mean(metric: Metric, sides: Sides, conditions: Conditions) -> Told:
    """Mean inception score over ten parts of the predicted set."""
    logits_nc, scores = _inception(metric, sides, conditions)
    value, num = float(scores.mean()), len(logits_nc)
    if not FEWEST_REDRAWN <= num <= MOST_REDRAWN:
        return Told(value, num)
    draws = redrawn(num, SEED, NUM_REDRAWS)
    values = [inception_scores(logits_nc[np.repeat(np.arange(num), counts)]).mean() for counts in draws]
    low, high = spread_interval(value, values)
    return Told(value, num, (max(1.0, low), high))


def inception_std(metric: Metric, sides: Sides, conditions: Conditions) -> Told:
    """Population standard deviation of the score over the parts; a spread has no interval of its own."""
    logits_nc, scores = _inception(metric, sides, conditions)
    return Told(float(scores.std()), len(logits_nc))


def _of_clips(ids: list[str], values: Floats) -> Told:
    """The mean over clips, its bootstrap interval, and the clips' own numbers."""
    interval = bootstrap_interval(values, SEED) if len(values) > 1 else None
    return Told(float(values.mean()), len(ids), interval, dict(zip(ids, values.tolist(), strict=True)))


def _of_pairs(formula: Callable[[Floats, Floats], Floats], words: str) -> Callable[[Metric, Sides, Conditions], Told]:
    """A metric that is the mean of a formula of (reference, predicted) over pairs; `words`: what their columns are."""

    def tell(metric: Metric, sides: Sides, conditions: Conditions) -> Told:
        ids = _pairs(metric, sides, conditions)
        stems: tuple[tuple[Side, str | None], ...] = (("reference", metric.reference_stem), ("predicted", metric.predicted_stem))
        real, generated = (stack([_part(sides.features(side, str(stem))[clip_id], metric) for clip_id in ids]) for side, stem in stems)
        if real.shape != generated.shape:
            raise UntellableError(
                f"{metric.reference_stem} and {metric.predicted_stem} are not of the same {words}: {real.shape[1]} in the reference and"
                f" {generated.shape[1]} in what was predicted; {_ONE_MODEL}"
            )
        return _of_clips(ids, formula(real, generated))

    return tell


def desync(metric: Metric, sides: Sides, conditions: Conditions) -> Told:
    """Mean offset of sound and picture over the first and the last 4.8 s of each clip, in seconds."""
    ids = _pairs(metric, sides, conditions)
    video, audio = sides.features("reference", str(metric.reference_stem)), sides.features("predicted", str(metric.predicted_stem))
    check_segments(ids, video, audio)
    head = conditions.sync_head()
    offsets_s = absolute_offsets(head, [video[clip_id] for clip_id in ids], [audio[clip_id] for clip_id in ids], conditions.device)
    return _of_clips(ids, offsets_s.mean(axis=1))


FORMULAS: Mapping[str, Callable[[Metric, Sides, Conditions], Told]] = MappingProxyType(
    {
        "frechet": frechet,
        "kl": _of_pairs(kl_divergences, "classes"),
        "inception mean": inception_mean,
        "inception std": inception_std,
        "cosine": _of_pairs(cosines, "dims"),
        "desync": desync,
    }
)
