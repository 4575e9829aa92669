"""Mean and standard deviation of latents, block by block, in memory that does not grow."""

import torch
from torch import Tensor


class Moments:
    """Running mean and squared deviation per channel in float64 (Chan, Golub and LeVeque 1979, eq. 2.1)."""

    def __init__(self) -> None:
        self._count = 0
        self._mean_c = torch.zeros(0, dtype=torch.float64)
        self._squares_c = torch.zeros(0, dtype=torch.float64)

    def add(self, latent_bnc: Tensor) -> None:
        """Take in a block, (rows, time, channels); row by row, so that the result does not depend on where blocks end."""
        for values_nc in latent_bnc.to(torch.float64):
            self._add_row(values_nc)

    def _add_row(self, values_nc: Tensor) -> None:
        count, mean_c = len(values_nc), values_nc.mean(0)
        squares_c = (values_nc - mean_c).square().sum(0)
        if self._count == 0:
            self._count, self._mean_c, self._squares_c = count, mean_c, squares_c
            return
        total = self._count + count
        step_c = mean_c - self._mean_c
        self._mean_c = self._mean_c + step_c * (count / total)
        self._squares_c = self._squares_c + squares_c + step_c.square() * (self._count * count / total)
        self._count = total

    def result(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (n - 1) over all blocks, each (channels,) float64. ValueError before any block."""
        if self._count < 2:
            raise ValueError(f"statistics of {self._count} values per channel; want at least 2")
        return self._mean_c, (self._squares_c / (self._count - 1)).sqrt()
