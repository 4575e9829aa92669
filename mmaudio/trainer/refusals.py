"""Steps that were left out because their gradient was not finite: remembered on the device, told when the host next looks."""

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mmaudio.base.naming import listed
from mmaudio.base.ranks import gather_objects

log = logging.getLogger(__name__)


class NonFiniteError(RuntimeError):
    """More steps without a finite gradient than the run may leave out. None of them was taken, and nothing was saved since."""


class Refusals:
    """Counts refused steps, and keeps of the first one its number and the rows to blame, until `look` reads them.

    Args:
        num_rows: of this rank's part of a batch.
        max_skipped: how many steps may be left out, all looks together.
    """

    def __init__(self, num_rows: int, max_skipped: int, device: torch.device) -> None:
        self.max_skipped, self.num_skipped = max_skipped, 0
        self._count, self._first = (torch.zeros((), dtype=torch.int64, device=device) for _ in range(2))
        self._is_bad = torch.zeros(num_rows, dtype=torch.bool, device=device)

    def note(self, is_refused: Tensor, loss_b: Tensor, steps_done: int) -> None:
        """Take in a step, without waiting for the device.

        Args:
            is_refused: (), the same on all ranks.
            loss_b: this rank's losses, one per row.
            steps_done: iterations finished before it.
        """
        is_first = is_refused & (self._count == 0)
        self._first.copy_(torch.where(is_first, steps_done, self._first))
        self._is_bad.copy_(torch.where(is_first, ~torch.isfinite(loss_b), self._is_bad))
        self._count.add_(is_refused)

    def look(self, names_of: Callable[[int], Sequence[str]]) -> None:
        """Collective, and waits for the device. Warn of steps that were left out since the last look.

        Args:
            names_of: ids of this rank's rows of an iteration.
        Raises: NonFiniteError, on every rank, where they have become too many.
        """
        count = int(self._count)  # the same on all ranks
        if not count:
            return
        step, names = int(self._first), list(names_of(int(self._first)))
        bad = [name for name, is_bad in zip(names, self._is_bad.tolist(), strict=True) if is_bad]
        gathered: list[tuple[list[str], list[str]]] = gather_objects((bad, names))
        self._count.zero_()
        self.num_skipped += count
        sentence = _sentence(step, gathered)
        if self.num_skipped > self.max_skipped:
            raise NonFiniteError(
                f"{sentence}. The step was not taken and nothing was saved since: check these rows, lower learning_rate, or set"
                " amp=False, and run the command again to go on from the last checkpoint"
            )
        log.warning("%s; %d steps are left out so far, of %d that may be", sentence, self.num_skipped, self.max_skipped)


def _sentence(step: int, gathered: Sequence[tuple[list[str], list[str]]]) -> str:
    bad_ids = [row_id for found, _ in gathered for row_id in found]
    rows = bad_ids or [row_id for _, everything in gathered for row_id in everything]
    return f"the {'loss' if bad_ids else 'gradient'} of iteration {step} is not finite; rows: {listed(rows)}"
