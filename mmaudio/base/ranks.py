"""What the processes of a run do together, and with what of the machine; which of them this is says `launcher`."""

import datetime
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import Store
from torch.distributed.rendezvous import rendezvous

from mmaudio.base.errors import UserError
from mmaudio.base.launcher import Ranks as Ranks
from mmaudio.base.launcher import read_ranks as read_ranks
from mmaudio.base.locks import hold_target

_PARENT_POLL_S = 1.0
_WATCH, _INIT = "launcher watch", 1
_COLLECTIVE_TIMEOUT = datetime.timedelta(minutes=30)
_HANG_REPORT = datetime.timedelta(minutes=10)
UNEVEN_WORK_TIMEOUT = datetime.timedelta(days=7)  # where processes wait for each other after hours of work that differs in length
T = TypeVar("T")


def pick_device(name: str, ranks: Ranks) -> torch.device:
    """The device a setting names: `cuda` (this rank's), `cuda:1`, `cpu`, or `auto` (CUDA if there is one).

    Raises: UserError where the device is not there, the name is unknown, or a machine has fewer devices than processes.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")  # no device anyone means
    if device.type not in ("cuda", "cpu"):
        raise UserError(f"device is {name!r}; want cuda, cuda:N, cpu or auto")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError("device is 'cuda' but this machine has no CUDA device; use the CPU instead: --device cpu (train.py: device=cpu)")
    count = torch.cuda.device_count() if device.type == "cuda" else 0
    sees_own = ranks.num_devices is not None and count < ranks.num_devices  # a launcher shows each process its own devices only
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", 0 if sees_own else ranks.local_rank)
    if device.type == "cuda" and max(device.index or 0, 0 if sees_own else ranks.local_world_size - 1) >= count:
        raise UserError(f"device is {name!r} and this machine has {count} for {ranks.local_world_size} processes; start fewer of them")
    return device


def set_threads(ranks: Ranks) -> int:
    """Give each process of a machine its share of the cores, or fewer if OMP_NUM_THREADS says so. Returns the count.

    Two pools that together exceed the cores slow a small step tenfold, so OMP_NUM_THREADS can lower the share only.
    """
    share = max(1, len(os.sched_getaffinity(0)) // ranks.local_world_size)
    asked = os.environ.get("OMP_NUM_THREADS", "")
    threads = min(share, int(asked)) if asked.isdigit() and int(asked) > 0 else share
    torch.set_num_threads(threads)
    return threads


def calm_environment() -> dict[str, str]:
    """The environment for a child process on a shared machine: its idle threads sleep instead of spinning.

    Spinning threads of two processes on the same cores were measured to slow a small training step twentyfold.
    """
    return {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}


def num_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0))


def watch_launcher(ranks: Ranks) -> None:
    """From now on this process ends itself within seconds of its launcher's end; at once if that is gone already."""
    if not ranks.is_launched or any(thread.name == _WATCH for thread in threading.enumerate()):
        return
    parent = os.getppid()
    if _is_orphan(parent):
        os._exit(1)
    threading.Thread(target=_leave_with_parent, args=(parent,), daemon=True, name=_WATCH).start()


def _is_orphan(parent: int) -> bool:
    """Whether the launcher was gone before anyone looked: torchrun names this script on its command line, and init does not."""
    if parent != _INIT or "TORCHELASTIC_RUN_ID" not in os.environ:
        return False
    with open(f"/proc/{_INIT}/cmdline", "rb") as file:
        return os.path.basename(sys.argv[0]).encode() not in file.read()


def _leave_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_PARENT_POLL_S)
    os._exit(1)


def patience(hang_timeout_s: float) -> datetime.timedelta:
    """How long a collective waits for the last process, so that a hang is reported before it gives up."""
    return datetime.timedelta(seconds=hang_timeout_s) + _HANG_REPORT


@contextmanager
def process_group(ranks: Ranks, device: torch.device, timeout: datetime.timedelta = _COLLECTIVE_TIMEOUT) -> Iterator[Store | None]:
    """Collective. Join the process group (NCCL on CUDA, gloo elsewhere) for the block; nothing to join for one process.

    A worker whose launcher is gone ends itself within seconds.

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


def wait_for_all() -> None:
    """Collective. Return when every rank is here."""
    if dist.is_initialized():
        dist.barrier()


def gather_objects(value: Any) -> list[Any]:
    """Collective. Every rank's `value`, in rank order, on every rank."""
    if not dist.is_initialized():
        return [value]
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, value)
    return gathered


def share_from_first(value: Any) -> Any:
    """Collective. Rank 0's `value`, on every rank."""
    if not dist.is_initialized():
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def first_does(step: Callable[[], T]) -> T:
    """Collective. What rank 0 makes of a step, on every rank. Raises: on every rank the UserError that it raised there."""
    value, problem = None, None
    if not dist.is_initialized() or dist.get_rank() == 0:
        try:
            value = step()
        except UserError as error:
            problem = error
    value, problem = share_from_first((value, problem))
    if problem is not None:
        raise problem
    return value


@contextmanager
def first_holds(target: Path, what: str, *, waits: bool = False) -> Iterator[None]:
    """Collective. Rank 0 keeps other jobs from writing a file or folder while it is in the block, as `hold_target` says.

    Raises: on every rank the UserError of a lock that another job has.
    """
    with ExitStack() as held:
        first_does(partial(held.enter_context, hold_target(target, what, waits=waits)))
        yield


def all_do(step: Callable[[], T]) -> T:
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
