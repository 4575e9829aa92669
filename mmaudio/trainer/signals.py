"""When a run ends early because it is asked to: by a signal to any of its processes."""

import enum
import signal
from collections.abc import Callable, Iterable
from datetime import timedelta
from types import FrameType, TracebackType
from typing import Any

import torch
import torch.distributed as dist

from mmaudio.base.errors import EXIT_INTERRUPTED, EXIT_REQUEUE
from mmaudio.distributed.collectives import AskedToStopError, gather_objects


class StopReason(enum.IntEnum):
    """What a run was asked for; of several requests the greatest counts."""

    NOTHING = 0
    STOP = 1  # Ctrl-C: someone wants it to end
    REQUEUE = 2  # by a scheduler, such as ahead of a time limit, or because its launcher or terminal is gone: it is to go on later

    @property
    def exit_code(self) -> int:
        """What a run that was asked for this leaves with."""
        return {StopReason.NOTHING: 0, StopReason.STOP: EXIT_INTERRUPTED, StopReason.REQUEUE: EXIT_REQUEUE}[self]


REQUEUES = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)  # what schedulers send, and a terminal that is closed
_SIGNALS = {signal.SIGINT: StopReason.STOP, **dict.fromkeys(REQUEUES, StopReason.REQUEUE)}


def handle(numbers: Iterable[signal.Signals], handler: Callable[[int, FrameType | None], Any]) -> dict[signal.Signals, Any]:
    """Handle signals from now on, but for a closed terminal's where that is ignored (nohup). Returns: the handlers they had before."""
    is_ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return {number: signal.signal(number, handler) for number in numbers if number != signal.SIGHUP or not is_ignored}


class StopSignals:
    """Inside the block, signals that ask a run to end are remembered instead of ending the process; a second Ctrl-C ends it.

    Works in the main thread only.
    """

    def __init__(self, timeout: timedelta) -> None:
        """`timeout`: how long a question waits for the last rank."""
        self._timeout, self._asked = timeout, StopReason.NOTHING
        self._answer: tuple[torch.Tensor, dist.Work] | None = None
        self._group: dist.ProcessGroup | None = None

    def __enter__(self) -> "StopSignals":
        """Collective. A group of its own on the CPU carries the question, so that no rank waits for its GPU to ask it."""
        self._group = dist.new_group(backend="gloo", timeout=self._timeout) if dist.is_initialized() else None
        self._before = handle(_SIGNALS, self._remember)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, signum: int, _frame: FrameType | None) -> None:
        if self._asked is StopReason.STOP and signum == signal.SIGINT:
            raise KeyboardInterrupt
        self._asked = max(self._asked, _SIGNALS[signal.Signals(signum)])

    def agreed(self) -> StopReason:
        """Collective, once before every step. What any rank was asked for by the time of the step before: all leave after the same one.

        The question of this step is answered while it runs, and read at the next.
        """
        if self._group is None:
            return self._asked
        said = StopReason.NOTHING
        if self._answer is not None:
            flag, work = self._answer
            work.wait()
            said = StopReason(int(flag))
        flag = torch.tensor(int(self._asked))
        work = dist.all_reduce(flag, dist.ReduceOp.MAX, group=self._group, async_op=True)
        assert work is not None
        self._answer = flag, work
        return said

    def look(self) -> None:
        """For the loops of a stage, which the run that goes on does anew. Raises: AskedToStopError where this process was asked to stop."""
        if self._asked:
            raise AskedToStopError(self._asked)

    def agreed_now(self) -> StopReason:
        """Collective, and waits for the last rank. What any of them was asked for by now."""
        return max(gather_objects(self._asked))

    def settle(self) -> None:
        """Collective. Wait for the last question, which nobody will ask the answer of."""
        if self._answer is not None:
            self._answer[1].wait()
            self._answer = None
