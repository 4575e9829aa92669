"""Mean and standard deviation of latents, row by row, in memory that does not grow."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Numbers = npt.NDArray[np.float64]


def row_moments(latent_bnc: Tensor) -> Numbers:
    """Of each row, (rows, time, channels): the mean over time and the squared deviations from it, (rows, 2, channels)."""
    return torch.stack([_moments(values_nc) for values_nc in latent_bnc.to(torch.float64)]).numpy()


def _moments(values_nc: Tensor) -> Tensor:
    """Of one row by itself: sums over several at once may add up in another order."""
    mean_c = values_nc.mean(0)
    return torch.stack([mean_c, (values_nc - mean_c).square().sum(0)])


class Moments:
    """Running mean and squared deviation per channel in float64 (Chan, Golub and LeVeque 1979, eq. 2.1).

    Rows are taken in one at a time, so that the result depends on their order alone, not on who computed which.
    """

    def __init__(self, count: int = 0, mean_c: Numbers | None = None, squares_c: Numbers | None = None) -> None:
        self._count = count
        self._mean_c = np.zeros(0) if mean_c is None else mean_c
        self._squares_c = np.zeros(0) if squares_c is None else squares_c

    @classmethod
    def of(cls, count: int, mean_c: Numbers, std_c: Numbers) -> "Moments":
        """The moments that gave this mean and standard deviation (n - 1) over `count` values."""
        return cls(count, mean_c, std_c**2 * (count - 1))

    def add(self, latent_bnc: Tensor) -> None:
        """Take in rows, (rows, time, channels)."""
        self.add_rows(row_moments(latent_bnc), latent_bnc.shape[1])

    def add_rows(self, moments_b2c: Numbers, num_values: int) -> None:
        """Take in rows by what `row_moments` says of them, each over `num_values` values per channel."""
        for mean_c, squares_c in moments_b2c:
            if self._count == 0:
                self._count, self._mean_c, self._squares_c = num_values, mean_c, squares_c
                continue
            total = self._count + num_values
            step_c = mean_c - self._mean_c
            self._mean_c = self._mean_c + step_c * (num_values / total)
            self._squares_c = self._squares_c + squares_c + step_c**2 * (self._count * num_values / total)
            self._count = total

    def result(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (n - 1) over all rows, each (channels,) float64. ValueError before any row."""
        if self._count < 2:
            raise ValueError(f"statistics of {self._count} values per channel; want at least 2")
        return torch.from_numpy(self._mean_c), torch.from_numpy(np.sqrt(self._squares_c / (self._count - 1)))
