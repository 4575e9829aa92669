"""How sure a mean is: bootstrap intervals over clips."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

_CHUNK = 1_000_000  # draws held in memory at once


def bootstrap_interval(differences: npt.ArrayLike, seed: int, num: int = 2000, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of the mean of paired differences, drawn again with replacement (Efron 1979).

    Args:
        differences: (clips,), one difference for each clip: the clips are the units that vary.
        seed: of the draws; the same seed gives the same interval.
        num: how many times the clips are drawn again.
        level: probability that the interval is to hold the mean.
    Returns: lower and upper end.
    Raises: ValueError for fewer than two differences or one that is not finite: no interval can be told from them.
    """
    values = np.asarray(differences, dtype=np.float64)
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"an interval needs at least two clips; got {values.size}")
    if not np.isfinite(values).all():
        raise ValueError("an interval needs finite differences; one is NaN or infinite")
    if not 0 < level < 1 or num < 1:
        raise ValueError(f"level is {level} and num {num}; want a level between 0 and 1 and at least one draw")
    draw = np.random.Generator(np.random.Philox(key=[seed & (2**64 - 1), 0]))
    rows = max(1, _CHUNK // len(values))
    sizes = [min(rows, num - start) for start in range(0, num, rows)]
    means = np.concatenate([values[draw.integers(0, len(values), (size, len(values)))].mean(axis=1) for size in sizes])
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def redrawn(num_clips: int, seed: int, num: int) -> Iterator[npt.NDArray[np.int64]]:
    """Clips drawn again with replacement, `num` times: how often each clip was drawn, (clips,), which sums to their number."""
    draw = np.random.Generator(np.random.Philox(key=[seed & (2**64 - 1), 1]))
    for _ in range(num):
        yield np.bincount(draw.integers(0, num_clips, num_clips), minlength=num_clips)


def spread_interval(value: float, redrawn_values: npt.ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of a statistic that is no mean, moved so that the redrawn values' mean lies at `value`.

    A Fréchet distance of few items is too large, and one of redrawn items is so twice over; moved, the interval tells how
    much the number would vary with other clips, and leaves in the bias that all numbers from as many clips share.

    Args:
        value: the statistic of the clips themselves.
        redrawn_values: (draws,), the statistic of clips drawn again.
        level: probability that the interval is to hold the statistic.
    """
    draws = np.asarray(redrawn_values, dtype=np.float64)
    low, high = value + np.quantile(draws, [(1 - level) / 2, (1 + level) / 2]) - draws.mean()
    return float(low), float(high)
