"""How fast a run goes, what that is of what the device could do, how much memory it takes, and when it will be done."""

import resource
import time

import torch

from mmaudio.trainer.costs import matmul_rate

GB, KIB = 1e9, 1024


class Telemetry:
    """Times the steps of a window; reading it starts the next one.

    Args:
        flops_per_row: operations of a step for a row of the batch; None where they are not known, which then are not told.
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
