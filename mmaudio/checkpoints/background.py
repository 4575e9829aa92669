"""Saving beside training: copies of live tensors in host memory, and a thread that writes them while training goes on."""

import dataclasses
import threading
import weakref
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

_Kind = tuple[torch.Size, torch.dtype, bool]  # of a buffer: the last is whether it is pinned


@dataclasses.dataclass
class _Buffer:
    memory: Tensor
    lent: "weakref.ref[Tensor] | None" = None

    def is_free(self) -> bool:
        return self.lent is None or self.lent() is None


class HostCopies:
    """Copies nests of tensors into host memory that is used again and again.

    A copy's memory is free for another one as soon as nobody holds the copy any more, so copies that are being written are safe.
    """

    def __init__(self) -> None:
        self._buffers: dict[_Kind, list[_Buffer]] = {}

    @torch.no_grad()
    def copy(self, live: Any, whole: Callable[[Tensor], Tensor] | None = None, *, keeps: bool = True) -> Any:
        """Copy every tensor of a nest of dicts, lists, tuples and dataclasses. Collective if `whole` is.

        Args:
            whole: what to do to each tensor before it is copied, such as gathering it from all processes.
            keeps: whether this process wants the copy; otherwise it only takes part in `whole`.
        Returns: an equal nest on the CPU, which nothing done to the live tensors afterwards changes; None unless it `keeps`. From
            CUDA it comes by pinned memory, and this waits for the device once.
        """
        devices: set[torch.device] = set()

        def take(tensor: Tensor) -> Tensor | None:
            source = (whole(tensor) if whole else tensor).detach()
            if not keeps:
                return None
            if source.is_cuda:
                devices.add(source.device)
            copied = self._borrow(source)
            copied.copy_(source, non_blocking=True)
            return copied

        result = _mapped(live, take)
        for device in devices:
            torch.cuda.current_stream(device).synchronize()
        return result if keeps else None

    def _borrow(self, source: Tensor) -> Tensor:
        kind = (source.shape, source.dtype, source.is_cuda)
        known = self._buffers.setdefault(kind, [])
        buffer = next((each for each in known if each.is_free()), None)
        if buffer is None:
            buffer = _Buffer(torch.empty(source.shape, dtype=source.dtype, pin_memory=source.is_cuda))
            known.append(buffer)
        lent = buffer.memory.detach()  # a tensor of its own on the same memory: when it is gone, so is the copy
        buffer.lent = weakref.ref(lent)
        return lent

    @property
    def num_bytes(self) -> int:
        """Of all buffers, in use or not."""
        return sum(each.memory.nbytes for known in self._buffers.values() for each in known)


def _mapped(live: Any, take: Callable[[Tensor], Any]) -> Any:
    if isinstance(live, Tensor):
        return take(live)
    if isinstance(live, Mapping):
        copied: dict[Any, Any] = {key: _mapped(value, take) for key, value in live.items()}
        return type(live)(copied)  # type: ignore[call-arg] # schedulers hold a Counter
    if isinstance(live, list | tuple):
        return type(live)(_mapped(value, take) for value in live)
    if dataclasses.is_dataclass(live) and not isinstance(live, type):
        return dataclasses.replace(live, **{each.name: _mapped(getattr(live, each.name), take) for each in dataclasses.fields(live)})
    return live


class BackgroundWriter:
    """Writes in a thread of its own, one thing at a time, in order. A context, at whose end everything is written.

    What is written must do no arithmetic on tensors: in a new thread that would start another pool of threads.
    """

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def submit(self, write: Callable[[], Any]) -> None:
        """Begin to write; waits first for what is under way. Raises: what that raised, and then does not begin."""
        self.wait()
        self._thread = threading.Thread(target=self._run, args=(write,), name="checkpoint writer")  # no daemon: an exit waits for it
        self._thread.start()

    def _run(self, write: Callable[[], Any]) -> None:
        try:
            write()
        except BaseException as error:  # the main thread's to handle
            self._error = error

    def wait(self) -> None:
        """Return when nothing is under way. Raises: what the last write raised, once."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.look()

    def look(self) -> None:
        """Wait for nothing. Raises: what the last write raised, once."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    def __enter__(self) -> "BackgroundWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.wait()
