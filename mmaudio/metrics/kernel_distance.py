"""Kernel distance of two sets of features (KID, Bińkowski et al. 2018, 1801.01401): unbiased, so fit for small sets. Float64.

No metric of the registry rests on it. It is part of av-bench's elementary functions, whose published numbers hold here, too.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmaudio.metrics.bands import Floats


@dataclass(frozen=True)
class KernelDistance:
    """Mean over random subsets and their population standard deviation."""

    mean: float
    std: float


def _kernel(a: Floats, b: Floats) -> Floats:
    return (a @ b.T / a.shape[1] + 1) ** 3


def squared_discrepancy(a: Floats, b: Floats) -> float:
    """Squared maximum mean discrepancy of two sets of m rows by the kernel (x·y / dims + 1)³, without the pairs of a row with itself."""
    m = len(a)
    within = sum(kernel.sum() - np.trace(kernel) for kernel in (_kernel(a, a), _kernel(b, b)))
    return float(within / (m * (m - 1)) - 2 * _kernel(a, b).sum() / m**2)


def kernel_distance(
    rows_a: npt.ArrayLike, rows_b: npt.ArrayLike, *, num_subsets: int = 100, subset_size: int = 1000, seed: int = 2020
) -> KernelDistance:
    """Mean and spread of the squared discrepancy over random subsets of both sets.

    Args:
        rows_a, rows_b: (items, dims).
        num_subsets: how many pairs of subsets are drawn, for each first one of `rows_a`.
        subset_size: rows of a subset, drawn without replacement.
        seed: of the draws.
    Raises: ValueError for sets smaller than a subset, of different widths, or not finite.
    """
    a, b = np.asarray(rows_a, dtype=np.float64), np.asarray(rows_b, dtype=np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"sets have shapes {a.shape} and {b.shape}; want (items, dims) each, of the same dims")
    if not 2 <= subset_size <= min(len(a), len(b)):
        raise ValueError(f"subsets of {subset_size} rows; want at least 2 and at most the {min(len(a), len(b))} rows of the smaller set")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("features hold NaN or infinity; make them anew")
    draw = np.random.RandomState(seed)
    values = [
        squared_discrepancy(a[draw.choice(len(a), subset_size, replace=False)], b[draw.choice(len(b), subset_size, replace=False)])
        for _ in range(num_subsets)
    ]
    return KernelDistance(float(np.mean(values)), float(np.std(values)))
