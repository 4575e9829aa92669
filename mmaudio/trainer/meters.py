"""Means over a window of steps, and its pace: throughput, share of what the device can do, memory, ETA."""

import resource
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from mmaudio.trainer.costs import matmul_rate


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


# ---- How fast a run goes, what that is of what the device could do, how much memory it takes, and when it will be done

GB, KIB = 1e9, 1024


class Telemetry:
    """Times the steps of a window; reading it starts the next one.

    Args:
        flops_per_row: operations of a step for a row of the batch; None where they are not known, and then left out.
        rows_per_step: of all ranks together.
        dtype: of the matrix products that the model's are compared with.
    """

    def __init__(
        self, flops_per_row: float | None, rows_per_step: int, num_ranks: int, device: torch.device, dtype: torch.dtype = torch.float32
    ) -> None:
        self._rows_per_step, self._num_ranks, self._device = rows_per_step, num_ranks, device
        self._flops_per_row = flops_per_row
        self._matmul_rate = matmul_rate(device, dtype) if flops_per_row else None  # FLOP/s of this process's device
        self._began_s, self._waited_s, self._num_steps = time.monotonic(), 0.0, 0

    def add_step(self, waited_s: float) -> None:
        """Count a step, of whose time `waited_s` went into waiting for its batch."""
        self._num_steps += 1
        self._waited_s += waited_s

    def pop(self) -> dict[str, float]:
        """What the steps since the last reading took, stages between them included.

        `step_s` seconds per step, `samples_s` rows per second of all ranks, `data_wait` share of the time, `tflops` 10^12 operations
        per second of the model on each device, `matmul_share` of the rate that a large matrix product has there, `memory_gb` the most
        that was in use on this process's device (of the process itself on the CPU).
        """
        now = time.monotonic()
        elapsed = max(now - self._began_s, 1e-9)
        samples_s = self._num_steps * self._rows_per_step / elapsed
        values = {"step_s": elapsed / max(self._num_steps, 1), "samples_s": samples_s, "data_wait": self._waited_s / elapsed}
        if self._flops_per_row is not None and self._matmul_rate is not None:
            rate = samples_s * self._flops_per_row / self._num_ranks
            values |= {"tflops": rate / 1e12, "matmul_share": rate / self._matmul_rate}
        self._began_s, self._waited_s, self._num_steps = now, 0.0, 0
        return {**values, "memory_gb": _peak_bytes(self._device) / GB}


def _peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB


def eta_words(step_s: float, steps_left: int) -> str:
    """`2:03:04 to go, done Tue 14:31`, in local time."""
    left_s = round(step_s * steps_left)
    at = time.strftime("%a %H:%M", time.localtime(time.time() + left_s))
    return f"{left_s // 3600}:{left_s // 60 % 60:02d}:{left_s % 60:02d} to go, done {at}"
