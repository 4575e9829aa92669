"""Scores of logits over classes of sound: how far two sounds are apart by them, and how distinct and varied a set is. Float64.

Axes: n clip, c class.
"""

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax

from mmaudio.metrics.bands import Floats

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
