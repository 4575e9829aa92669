"""Which times are trained, and the loss by time."""

from dataclasses import dataclass

import torch
from torch import Tensor

NUM_TIME_BINS = 25


def logit_normal_times(z_b: Tensor, mean: float = 0.0, scale: float = 1.0) -> Tensor:
    """Times in (0, 1) from standard normals: sigmoid(scale · z + mean) (Esser et al. 2024, arXiv 2403.03206, eq. 19)."""
    return torch.sigmoid(scale * z_b + mean)


@dataclass(frozen=True)
class BinnedLoss:
    """Sums and counts of per-sample losses in equal bins of time, each (NUM_TIME_BINS,) float64."""

    total: Tensor
    count: Tensor


def bin_by_time(loss_b: Tensor, t_b: Tensor) -> BinnedLoss:
    """Sort per-sample losses into bins by their time; a time that rounds to 1 falls in the last bin."""
    which = (t_b.double() * NUM_TIME_BINS).floor().long().clamp_(0, NUM_TIME_BINS - 1)
    zeros = torch.zeros(NUM_TIME_BINS, dtype=torch.float64, device=loss_b.device)
    return BinnedLoss(zeros.index_add(0, which, loss_b.double()), zeros.index_add(0, which, torch.ones_like(loss_b, dtype=torch.float64)))
