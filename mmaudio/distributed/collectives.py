"""What the processes of a run do together: meet, wait, give each other values, hear of failures. Which of them this is, `ranks` says."""

import datetime
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import Store
from torch.distributed.rendezvous import rendezvous

from mmaudio.base.errors import UserError, is_told, sentence_of
from mmaudio.distributed.ranks import Ranks, watch_launcher
from mmaudio.files.locks import hold_target

_COLLECTIVE_TIMEOUT = datetime.timedelta(minutes=30)
_HANG_REPORT = datetime.timedelta(minutes=10)
UNEVEN_WORK_TIMEOUT = datetime.timedelta(days=7)  # where processes wait for each other after hours of work that differs in length
_WORDS_OF_COLLECTIVES = ("gloo", "NCCL", "c10d", "Connection closed by peer", "Connection reset by peer")
T = TypeVar("T")


def collective_timeout(hang_timeout_s: float) -> datetime.timedelta:
    """How long a collective waits for the last process, so that a hang is reported before it gives up."""
    return datetime.timedelta(seconds=hang_timeout_s) + _HANG_REPORT


@contextmanager
def process_group(ranks: Ranks, device: torch.device, timeout: datetime.timedelta = _COLLECTIVE_TIMEOUT) -> Iterator[Store | None]:
    """Collective. Join the process group (NCCL on CUDA, gloo elsewhere) for the block; nothing to join for one process.

    A worker is sent SIGTERM within seconds of its launcher's end.

    Args:
        timeout: how long a collective waits for the last process. Meeting at the start has a time limit of its own.
    Returns: the store through which its processes met; None for one process.
    """
    watch_launcher(ranks)
    if ranks.world_size == 1:
        yield None
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    store, rank, world_size = next(rendezvous(ranks.meeting or "env://", timeout=_COLLECTIVE_TIMEOUT))
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=timeout)
    try:
        yield store
    finally:
        dist.destroy_process_group()


def is_of_collective(error: BaseException) -> bool:
    """Whether an error says that processes cannot talk to each other any more, most likely since one of them has ended."""
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in _WORDS_OF_COLLECTIVES)
    )


class AskedToStopError(Exception):
    """This rank was asked to stop (`asked`: by what), in the midst of what all ranks do together in `attempt`."""

    def __init__(self, asked: int) -> None:
        super().__init__("asked to stop")
        self.asked = asked


@dataclass(frozen=True)
class Failure:
    """Why a rank did not do its part: a sentence, and the traceback of what no user can mend. `asked`: it was asked to stop."""

    rank: int
    sentence: str
    traceback: str = ""
    asked: int = 0

    @classmethod
    def of(cls, error: Exception) -> "Failure":
        """Of an error on this rank."""
        asked = error.asked if isinstance(error, AskedToStopError) else 0
        details = "" if is_told(error) or asked else "".join(traceback.format_exception(error)).rstrip()
        return cls(dist.get_rank() if dist.is_initialized() else 0, sentence_of(error), details, asked)


class FailedError(Exception):
    """Some ranks did not do their part of what all do together; raised on every rank."""

    def __init__(self, failures: Sequence[Failure]) -> None:
        several = len({each.sentence for each in failures}) > 1
        told = dict.fromkeys(f"{each.sentence} (rank {each.rank})" if several else each.sentence for each in failures)
        super().__init__("; ".join(told))
        self.failures = tuple(failures)

    @property
    def asked(self) -> int:
        """What any rank was asked to stop by, which is then why; else 0."""
        return max(each.asked for each in self.failures)


def attempt(step: Callable[[], T], catches: type[Exception] = Exception, recover: Callable[[], None] = lambda: None) -> T:
    """Collective. Do what may fail on some ranks only, and be heard of by all: also by those that wait for it in the midst of the step.

    Args:
        step: which talks to other ranks by the functions of this module alone.
        catches: what a rank that raises it tells the others.
        recover: called after an error on this rank, when nothing of the step is held any more.
    Returns: this rank's value, where no rank failed.
    Raises: FailedError on every rank where one did. That a rank has ended is raised as it is.
    """
    failure, value = None, None
    try:
        value = step()
    except FailedError:  # heard in the midst of the step
        raise
    except catches as error:
        if is_of_collective(error):
            raise
        failure = Failure.of(error)
    if failure is not None:
        recover()
    gather_objects(failure)
    return cast(T, value)


def barrier() -> None:
    """Collective. Return when every rank is here. Raises: FailedError as `gather_objects`."""
    gather_objects(None)


def gather_objects(value: Any) -> list[Any]:
    """Collective. Every rank's `value`, in rank order, on every rank. Raises: FailedError where a rank left an `attempt` instead."""
    gathered: list[Any] = [value]
    if dist.is_initialized():
        gathered = [None] * dist.get_world_size()
        dist.all_gather_object(gathered, value)
    failures = [each for each in gathered if isinstance(each, Failure)]
    if failures:
        raise FailedError(failures)
    return gathered


def broadcast_from_first(value: Any) -> Any:
    """Collective. Rank 0's `value`, on every rank. Raises: FailedError as `gather_objects`."""
    if not dist.is_initialized():
        return value
    barrier()  # a broadcast hears of no other rank than the first
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def on_first_rank(step: Callable[[], T]) -> T:
    """Collective. What rank 0 makes of a step, on every rank. Raises: on every rank the UserError that it raised there."""
    value, problem = None, None
    if not dist.is_initialized() or dist.get_rank() == 0:
        try:
            value = step()
        except UserError as error:
            problem = error
    value, problem = broadcast_from_first((value, problem))
    if problem is not None:
        raise problem
    return value


@contextmanager
def first_holds(target: Path, what: str, *, waits: bool = False) -> Iterator[None]:
    """Collective. Rank 0 keeps other jobs from writing a file or folder while it is in the block, as `hold_target` says.

    Raises: on every rank the UserError of a lock that another job has.
    """
    with ExitStack() as held:
        on_first_rank(partial(held.enter_context, hold_target(target, what, waits=waits)))
        yield


def on_all_ranks(step: Callable[[], T]) -> T:
    """Collective. What each rank makes of a step. Raises: on every rank the sentences of any that a UserError stopped."""
    value, sentences = None, list[str]()
    try:
        value = step()
    except UserError as error:
        sentences = list(error.sentences)
    told = list(dict.fromkeys(sentence for part in gather_objects(sentences) for sentence in part))
    if told:
        raise UserError(*told)
    return cast(T, value)
