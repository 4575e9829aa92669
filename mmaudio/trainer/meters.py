"""Averages over a window of steps. Values stay on the device until they are read; reading clears the window."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Sum:
    """A total and how many samples it is over, of the same shape: () for a number, (bins,) for a histogram."""

    total: Tensor
    count: Tensor

    @staticmethod
    def of(value_b: Tensor) -> "Sum":
        """The sum of one value per sample, (batch,)."""
        return Sum(value_b.detach().sum(dtype=torch.float64), torch.full((), len(value_b), dtype=torch.float64, device=value_b.device))

    def unless(self, is_left_out: Tensor) -> "Sum":
        """The sum, or one over nothing where a flag () on the device says so."""
        return Sum(torch.where(is_left_out, 0.0, self.total), torch.where(is_left_out, 0.0, self.count))


Values = dict[str, float | list[float]]


class Meters:
    """Sums of named quantities. All ranks hold the same names, so that a rank without samples can still take part.

    Args:
        shapes: name and shape of each quantity.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], device: torch.device) -> None:
        self._shapes = dict(shapes)
        self._device = device
        self._clear()

    def _clear(self) -> None:
        self._sums = {name: torch.zeros(2, *shape, dtype=torch.float64, device=self._device) for name, shape in self._shapes.items()}

    @torch.no_grad()
    def add(self, sums: Mapping[str, Sum]) -> None:
        """Take in what one batch gave; no wait for the device."""
        for name, each in sums.items():
            self._sums[name] += torch.stack((each.total.detach(), each.count))

    def pop(self) -> Values:
        """Collective. Averages over all samples of all ranks since the last reading; NaN where there were none."""
        flat = torch.cat([total.flatten() for total in self._sums.values()])
        if dist.is_initialized():
            dist.all_reduce(flat)
        values: Values = {}
        for name, part in zip(self._sums, flat.cpu().split([total.numel() for total in self._sums.values()]), strict=True):
            total, count = part.view(2, *self._shapes[name])
            values[name] = (total / count).tolist()
        self._clear()
        return values
