"""The formula of each metric on features."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax

from mmaudio.base.errors import named
from mmaudio.metrics.distances import FEWEST_ITEMS, cosines, frechet_of_rows
from mmaudio.metrics.feature_cache import PairedCaches, Side, stack
from mmaudio.metrics.intervals import bootstrap_interval, redrawn, spread_interval
from mmaudio.metrics.registry import Metric
from mmaudio.metrics.results import MetricUnavailableError
from mmaudio.metrics.spectrum import Floats

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from mmaudio.encoders import SyncHead


# ---- Logits over classes of sound: how far two sounds are apart by them, and how distinct and varied a set is. Float64

SPLITS = 10
PERMUTATION_SEED = 2020  # both are av-benchmark's


def _log_probabilities(logits: npt.ArrayLike) -> Floats:
    logits_nc = np.asarray(logits, dtype=np.float64)
    if logits_nc.ndim != 2:
        raise ValueError(f"logits have shape {logits_nc.shape}; want (clips, classes)")
    if not logits_nc.size:
        raise ValueError("there are no clips to score: the set of logits is empty")
    if not np.isfinite(logits_nc).all():
        raise ValueError("logits hold NaN or infinity; make the features anew")
    return log_softmax(logits_nc, axis=1)


def kl_divergences(reference_logits: npt.ArrayLike, predicted_logits: npt.ArrayLike) -> Floats:
    """KL(reference ‖ predicted) of the class distributions (softmax) of each pair, in nats.

    Args:
        reference_logits, predicted_logits: (clips, classes), row by row of the same clips.
    Returns: (clips,), at least 0.
    Raises: ValueError for sets that are empty, not finite or of different shapes.
    """
    log_p, log_q = _log_probabilities(reference_logits), _log_probabilities(predicted_logits)
    if log_p.shape != log_q.shape:
        raise ValueError(f"logits of shapes {log_p.shape} and {log_q.shape} are not of the same clips and classes")
    return np.maximum(0.0, (np.exp(log_p) * (log_p - log_q)).sum(axis=1))


def split_bounds(num_clips: int, num_splits: int) -> list[tuple[int, int]]:
    """First and one past the last row of each split."""
    return [(split * num_clips // num_splits, (split + 1) * num_clips // num_splits) for split in range(num_splits)]


def inception_scores(logits: npt.ArrayLike, num_splits: int = SPLITS, *, shuffle: bool = True) -> Floats:
    """Inception score of each split of a set (Salimans et al. 2016): exp of the mean KL of a clip's classes to its split's.

    Args:
        logits: (clips, classes).
        num_splits: into how many parts the set is cut.
        shuffle: whether rows are first exchanged, always in the same way for a number of clips.
    Returns: (splits,), each from 1 to the number of classes. Their mean, and their population standard deviation, are reported.
    Raises: ValueError for fewer clips than splits, or logits that are not finite.
    """
    log_p_nc = _log_probabilities(logits)
    if len(log_p_nc) < num_splits:
        raise ValueError(f"an inception score of {num_splits} splits needs at least {num_splits} clips; there are {len(log_p_nc)}")
    if shuffle:
        log_p_nc = log_p_nc[np.random.RandomState(PERMUTATION_SEED).permutation(len(log_p_nc))]
    return np.array([_inception_score(log_p_nc[first:end]) for first, end in split_bounds(len(log_p_nc), num_splits)])


def _inception_score(log_p_nc: Floats) -> float:
    p_nc = np.exp(log_p_nc)
    mean_c = p_nc.mean(axis=0)
    log_mean_c = np.log(np.where(mean_c > 0, mean_c, 1.0))  # where the mean is 0, so is every p
    return float(np.exp((p_nc * (log_p_nc - log_mean_c)).sum(axis=1).mean()))


# ---- How far sound and picture are apart in time, by Synchformer's comparison head from the vectors of both (av-benchmark's DeSync)

OFFSETS_PER_S = 5  # the head's logits stand for offsets 0.2 s apart, as many before as after
PAIRS_AT_ONCE = 16


def check_segments(ids: Sequence[str], video: Mapping[str, "Tensor"], audio: Mapping[str, "Tensor"]) -> None:
    """Raises: UntellableError naming clips that the head cannot judge: shorter than its 14 segments, or of unlike lengths."""
    from mmaudio.encoders.synchformer_head import HEAD_SEGMENTS

    unlike = [clip_id for clip_id in ids if len(video[clip_id]) != len(audio[clip_id])]
    if unlike:
        num_seen, num_heard = len(video[unlike[0]]), len(audio[unlike[0]])
        raise MetricUnavailableError(
            f"video and sound of {named(unlike)} have unlike lengths ({num_seen} and {num_heard} segments); make both over one duration"
        )
    short = [clip_id for clip_id in ids if len(video[clip_id]) < HEAD_SEGMENTS]
    if short:
        raise MetricUnavailableError(f"{named(short)} have fewer than {HEAD_SEGMENTS} segments (4.8 s); evaluate clips of at least 4.8 s")


def absolute_offsets(head: "SyncHead", video: Sequence["Tensor"], audio: Sequence["Tensor"], device: "torch.device | str") -> Floats:
    """The offset the head finds most likely over the first and over the last 4.8 s of each clip, without its sign.

    Args:
        head: on `device`.
        video: (segments, 8, 768) for each clip, at least 14 segments.
        audio: (segments, 6, 768) likewise.
        device: where pairs are compared, 16 at once.
    Returns: (clips, 2) in seconds, in [0, 2].
    """
    import torch

    from mmaudio.encoders.synchformer_head import HEAD_SEGMENTS, NUM_OFFSETS

    places = []
    with torch.inference_mode():
        for start in range(0, len(video), PAIRS_AT_ONCE):
            batch = slice(start, start + PAIRS_AT_ONCE)
            ends = []
            for window in (slice(None, HEAD_SEGMENTS), slice(-HEAD_SEGMENTS, None)):
                seen, heard = (torch.stack([clip[window] for clip in clips[batch]]).float().to(device) for clips in (video, audio))
                ends.append(head(seen, heard).argmax(dim=1))
            places.append(torch.stack(ends, dim=1).cpu().numpy())
    return np.abs(np.concatenate(places) - NUM_OFFSETS // 2) / OFFSETS_PER_S


# ---- Every metric by its formula

Interval = tuple[float, float]
# Scores of a whole set have to be computed anew for each draw. With 512 clips and 2048 dims that takes a minute or so on two cores.
FEWEST_REDRAWN, MOST_REDRAWN, NUM_REDRAWS = 10, 512, 200
SEED = 0  # of all draws
_ONE_MODEL = "make both by one model"


@dataclass(frozen=True)
class MetricOptions:
    """What holds for all metrics of one measurement."""

    paired: bool
    min_pairs: int  # fewer give no number
    device: str
    sync_head: Callable[[], "SyncHead"]  # loads it


@dataclass(frozen=True)
class MetricValue:
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


def _pairs(metric: Metric, sides: PairedCaches, conditions: MetricOptions) -> list[str]:
    """Ids of the clips a metric compares. Raises: UntellableError if there are none, too few, or pairs mean nothing."""
    assert metric.reference_stem is not None and metric.predicted_stem is not None, "a metric of pairs has two kinds of features"
    if not conditions.paired:
        raise MetricUnavailableError(f"{metric.name} compares clip by clip, and the two sets are compared unpaired; measure them paired")
    ids = sides.pairs(metric.reference_stem, metric.predicted_stem)
    if len(ids) < conditions.min_pairs:
        raise MetricUnavailableError(
            f"only {len(ids)} clips have both {metric.reference_stem} and {metric.predicted_stem}, and at least {conditions.min_pairs} are"
            " wanted; make the missing features, or ask for less coverage"
        )
    return ids


def _sets(metric: Metric, sides: PairedCaches, conditions: MetricOptions, *which: Side) -> list[dict[str, Any]]:
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


def frechet(metric: Metric, sides: PairedCaches, conditions: MetricOptions) -> MetricValue:
    """Fréchet distance of all rows of both sides."""
    reference, predicted = (_rows(metric, features) for features in _sets(metric, sides, conditions, "reference", "predicted"))
    _check_rows(reference, predicted)
    value = frechet_of_rows(predicted.values, reference.values)
    return MetricValue(value, len(predicted.ids), _frechet_interval(value, reference, predicted, conditions))


def _check_rows(reference: Rows, predicted: Rows) -> None:
    """Raises: UntellableError for a set that has no spread, and for sets of features of two models."""
    for words, rows in (("the reference", reference), ("what was predicted", predicted)):
        if len(rows.values) < FEWEST_ITEMS:
            raise MetricUnavailableError(f"{words} has {len(rows.values)} vectors; the spread of a set needs at least {FEWEST_ITEMS}")
    widths = [rows.values.shape[1] for rows in (reference, predicted)]
    if widths[0] != widths[1]:
        raise MetricUnavailableError(f"vectors have {widths[0]} dims in the reference and {widths[1]} in what was predicted; {_ONE_MODEL}")


def _frechet_interval(value: float, reference: Rows, predicted: Rows, conditions: MetricOptions) -> Interval | None:
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


def _inception(metric: Metric, sides: PairedCaches, conditions: MetricOptions) -> tuple[Floats, Floats]:
    """The predicted clips' logits, in their file's order, and the score of each part of them.

    Raises: UntellableError for fewer clips than parts.
    """
    (predicted,) = _sets(metric, sides, conditions, "predicted")
    logits_nc = stack([_part(value, metric) for value in predicted.values()])
    if len(logits_nc) < SPLITS:
        raise MetricUnavailableError(f"an inception score of {SPLITS} splits needs at least {SPLITS} clips; there are {len(logits_nc)}")
    return logits_nc, inception_scores(logits_nc)


def inception_mean(metric: Metric, sides: PairedCaches, conditions: MetricOptions) -> MetricValue:
    """Mean inception score over ten parts of the predicted set."""
    logits_nc, scores = _inception(metric, sides, conditions)
    value, num = float(scores.mean()), len(logits_nc)
    if not FEWEST_REDRAWN <= num <= MOST_REDRAWN:
        return MetricValue(value, num)
    draws = redrawn(num, SEED, NUM_REDRAWS)
    values = [inception_scores(logits_nc[np.repeat(np.arange(num), counts)]).mean() for counts in draws]
    low, high = spread_interval(value, values)
    return MetricValue(value, num, (max(1.0, low), high))


def inception_std(metric: Metric, sides: PairedCaches, conditions: MetricOptions) -> MetricValue:
    """Population standard deviation of the score over the parts; a spread has no interval of its own."""
    logits_nc, scores = _inception(metric, sides, conditions)
    return MetricValue(float(scores.std()), len(logits_nc))


def _of_clips(ids: list[str], values: Floats) -> MetricValue:
    """The mean over clips, its bootstrap interval, and the clips' own numbers."""
    interval = bootstrap_interval(values, SEED) if len(values) > 1 else None
    return MetricValue(float(values.mean()), len(ids), interval, dict(zip(ids, values.tolist(), strict=True)))


def _of_pairs(formula: Callable[[Floats, Floats], Floats], words: str) -> Callable[[Metric, PairedCaches, MetricOptions], MetricValue]:
    """A metric that is the mean of a formula of (reference, predicted) over pairs; `words`: what their columns are."""

    def tell(metric: Metric, sides: PairedCaches, conditions: MetricOptions) -> MetricValue:
        ids = _pairs(metric, sides, conditions)
        stems: tuple[tuple[Side, str | None], ...] = (("reference", metric.reference_stem), ("predicted", metric.predicted_stem))
        real, generated = (stack([_part(sides.features(side, str(stem))[clip_id], metric) for clip_id in ids]) for side, stem in stems)
        if real.shape != generated.shape:
            raise MetricUnavailableError(
                f"{metric.reference_stem} and {metric.predicted_stem} are not of the same {words}: {real.shape[1]} in the reference and"
                f" {generated.shape[1]} in what was predicted; {_ONE_MODEL}"
            )
        return _of_clips(ids, formula(real, generated))

    return tell


def desync(metric: Metric, sides: PairedCaches, conditions: MetricOptions) -> MetricValue:
    """Mean offset of sound and picture over the first and the last 4.8 s of each clip, in seconds."""
    ids = _pairs(metric, sides, conditions)
    video, audio = sides.features("reference", str(metric.reference_stem)), sides.features("predicted", str(metric.predicted_stem))
    check_segments(ids, video, audio)
    head = conditions.sync_head()
    offsets_s = absolute_offsets(head, [video[clip_id] for clip_id in ids], [audio[clip_id] for clip_id in ids], conditions.device)
    return _of_clips(ids, offsets_s.mean(axis=1))


FORMULAS: Mapping[str, Callable[[Metric, PairedCaches, MetricOptions], MetricValue]] = MappingProxyType(
    {
        "frechet": frechet,
        "kl": _of_pairs(kl_divergences, "classes"),
        "inception mean": inception_mean,
        "inception std": inception_std,
        "cosine": _of_pairs(cosines, "dims"),
        "desync": desync,
    }
)
