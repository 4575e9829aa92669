"""When a run ends early because it is asked to: by a signal to any of its processes."""

import enum
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType, TracebackType

import torch
import torch.distributed as dist

from mmaudio.base.errors import EXIT_INTERRUPTED, EXIT_REQUEUE, UserError


class Asked(enum.IntEnum):
    """What a run was asked for; of several requests the greatest counts."""

    NOTHING = 0
    STOP = 1  # Ctrl-C: someone wants it to end
    REQUEUE = 2  # SIGTERM, or SIGUSR1 as schedulers send it ahead of a time limit: it is to go on later

    @property
    def exit_code(self) -> int:
        """What a run that was asked for this leaves with."""
        return {Asked.NOTHING: 0, Asked.STOP: EXIT_INTERRUPTED, Asked.REQUEUE: EXIT_REQUEUE}[self]


class StoppedError(Exception):
    """A stage that ended early because the run was `asked` to stop; raised on every rank."""

    def __init__(self, asked: Asked) -> None:
        super().__init__(asked)
        self.asked = asked


REQUEUES = (signal.SIGTERM, signal.SIGUSR1)  # what schedulers send
_SIGNALS = {signal.SIGINT: Asked.STOP, **dict.fromkeys(REQUEUES, Asked.REQUEUE)}


class StopRequest:
    """Inside the block such signals are remembered instead of ending the process; a second Ctrl-C ends it.

    Works in the main thread only.
    """

    def __init__(self, timeout: timedelta) -> None:
        """`timeout`: how long a question waits for the last rank."""
        self._timeout, self._asked = timeout, Asked.NOTHING
        self._answer: tuple[torch.Tensor, dist.Work] | None = None
        self._group: dist.ProcessGroup | None = None

    def __enter__(self) -> "StopRequest":
        """Collective. A group of its own on the CPU carries the question, so that no rank waits for its GPU to ask it."""
        self._group = dist.new_group(backend="gloo", timeout=self._timeout) if dist.is_initialized() else None
        self._before = {number: signal.signal(number, self._remember) for number in _SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, signum: int, _frame: FrameType | None) -> None:
        if self._asked is Asked.STOP and signum == signal.SIGINT:
            raise KeyboardInterrupt
        self._asked = max(self._asked, _SIGNALS[signal.Signals(signum)])

    def agreed(self) -> Asked:
        """Collective, once before every step. What any rank was asked for by the time of the step before: all leave after the same one.

        The question of this step is answered while it runs, and read at the next.
        """
        if self._group is None:
            return self._asked
        said = Asked.NOTHING
        if self._answer is not None:
            flag, work = self._answer
            work.wait()
            said = Asked(int(flag))
        flag = torch.tensor(int(self._asked))
        work = dist.all_reduce(flag, dist.ReduceOp.MAX, group=self._group, async_op=True)
        assert work is not None
        self._answer = flag, work
        return said

    def look(self) -> None:
        """For the loops of a stage, inside `heeded`. Raises: UserError where this process was asked to stop."""
        if self._asked:
            raise UserError("asked to stop")

    @contextmanager
    def heeded(self) -> Iterator[None]:
        """Collective. A part of a stage that may end early. A UserError in it is raised on every rank, as `all_do` does it.

        Raises: StoppedError, on every rank, where any was asked to stop by its end.
        """
        try:
            yield
        except UserError:
            self._raise_stopped()
            raise
        self._raise_stopped()

    def _raise_stopped(self) -> None:
        if asked := self.agreed_now():
            raise StoppedError(asked) from None

    def agreed_now(self) -> Asked:
        """Collective, and waits for the last rank. What any of them was asked for by now."""
        flag = torch.tensor(int(self._asked))
        if self._group is not None:
            dist.all_reduce(flag, dist.ReduceOp.MAX, group=self._group)
        return Asked(int(flag))

    def settle(self) -> None:
        """Collective. Wait for the last question, which nobody will ask the answer of."""
        if self._answer is not None:
            self._answer[1].wait()
            self._answer = None
