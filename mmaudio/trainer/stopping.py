"""When a run ends early: asked to by a signal, or because its numbers are no numbers any more."""

import signal
from collections.abc import Sequence
from types import FrameType, TracebackType

import torch
import torch.distributed as dist
from torch import Tensor

from mmaudio.base.ranks import gather_objects

_IDS_SHOWN = 16


class NonFiniteError(RuntimeError):
    """A loss or gradient that is not finite. The step was not taken."""


def any_rank(claim: bool, device: torch.device) -> bool:
    """Collective. Whether the claim holds on any rank; all ranks get the same answer."""
    if not dist.is_initialized():
        return claim
    flag = torch.tensor(float(claim), device=device)
    dist.all_reduce(flag, dist.ReduceOp.MAX)
    return bool(flag.item())


class StopRequest:
    """Inside the block, a SIGTERM or Ctrl-C is remembered instead of ending the process; a second Ctrl-C ends it.

    Works in the main thread only.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._asked = False

    def __enter__(self) -> "StopRequest":
        self._before = {number: signal.signal(number, self._remember) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, signum: int, _frame: FrameType | None) -> None:
        if self._asked and signum == signal.SIGINT:
            raise KeyboardInterrupt
        self._asked = True

    def is_agreed(self) -> bool:
        """Collective. Whether any rank was asked to stop: all leave after the same step."""
        return any_rank(self._asked, self._device)


def stop_if_not_finite(loss_b: Tensor, grad_norm: Tensor, ids: Sequence[str], steps_done: int) -> None:
    """Collective. Compare notes before the optimizer's step, which one rank's bad row would spoil for all.

    Args:
        loss_b: this rank's losses, one per row.
        grad_norm: norm of the whole gradient, a scalar.
        ids: row ids of this rank's batch.
    Raises: NonFiniteError on every rank, naming the rows whose loss is not finite, or all rows if only the gradient is.
    """
    bad_b = ~torch.isfinite(loss_b.detach())
    is_bad = bool((bad_b.any() | ~torch.isfinite(grad_norm)).item())
    if not any_rank(is_bad, loss_b.device):
        return
    mine = [row_id for row_id, bad in zip(ids, bad_b.tolist(), strict=True) if bad]
    gathered: list[tuple[list[str], list[str]]] = gather_objects((mine, list(ids)))
    bad_ids = [row_id for found, _ in gathered for row_id in found]
    what = "the loss" if bad_ids else f"the gradient (norm {float(grad_norm)})"
    rows = bad_ids or [row_id for _, everything in gathered for row_id in everything]
    shown = ", ".join(rows[:_IDS_SHOWN]) + (f" and {len(rows) - _IDS_SHOWN} more" if len(rows) > _IDS_SHOWN else "")
    raise NonFiniteError(
        f"{what} of iteration {steps_done} is not finite; rows: {shown}. The step was not taken and nothing was saved:"
        " check these rows, lower learning_rate, or set amp=False, and run the command again to go on from the last checkpoint"
    )
