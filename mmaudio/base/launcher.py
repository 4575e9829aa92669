"""Which process this is, of how many, as the launcher's environment says, and whether that launcher still runs. Needs no torch."""

import logging
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass

from mmaudio.base.errors import UserError
from mmaudio.base.processes import Process, is_running, is_torchrun, starter
from mmaudio.base.slurm import slurm_task

_POLL_S = 1.0
_TORCHRUN_HANDLES = "SIGTERM,SIGINT,SIGHUP,SIGQUIT"  # where nothing else is asked for
_SCHEDULERS = {"SLURM": ("SLURM_JOB_ID", "SLURM_JOBID"), "PBS": ("PBS_JOBID",), "LSF": ("LSB_JOBID",), "Grid Engine": ("SGE_TASK_ID",)}
_AHEAD_OF_LIMITS = "SIGUSR1"  # what schedulers send
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ranks:
    """This process's place. `rank` is global and decides who writes; `local_rank` only picks the device."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1
    is_launched: bool = False  # by torchrun or the like, whose end is this process's end
    num_devices: int | None = None  # GPUs the job has on this machine, where the launcher says so
    meeting: str | None = None  # where the processes meet, if it is rank 0 that receives them there and not the launcher

    @property
    def is_first(self) -> bool:
        return self.rank == 0


def read_ranks() -> Ranks:
    """The place that torchrun, or else srun, gave this process; the only one where no launcher did.

    Raises: UserError for a launcher's environment that does not say what is needed.
    """
    if "RANK" not in os.environ and (task := slurm_task(os.environ)):
        allotted = os.environ.get("SLURM_GPUS_ON_NODE", "")
        num_devices = int(allotted) if allotted.isdecimal() else None
        meeting = f"tcp://{task.address}:{task.port}?rank={task.rank}&world_size={task.num_tasks}"
        return Ranks(task.rank, task.num_tasks, task.local_rank, task.num_local_tasks, True, num_devices, meeting)
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    rank, world_size, local_rank, local_world_size = (_number(name, alone) for name, alone in zip(names, "0101", strict=True))
    return Ranks(rank, world_size, local_rank, local_world_size, is_launched="RANK" in os.environ)


def _number(name: str, alone: str) -> int:
    told = os.environ.get(name, alone)
    if not told.isdecimal():
        raise UserError(f"the environment says {name}={told}; want a whole number, as torchrun gives it")
    return int(told)


def launcher_holds_store() -> bool:
    """Whether the processes meet in their launcher (torchrun's), and not in the process of rank 0."""
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def unhandled_signals() -> str | None:
    """A sentence where a scheduler may send a signal that torchrun would not pass on, but die of; None elsewhere."""
    environment = os.environ
    scheduler = next((name for name, keys in _SCHEDULERS.items() if any(environment.get(key) for key in keys)), None)
    if scheduler is None or "TORCHELASTIC_RUN_ID" not in environment:
        return None
    handled = [name.strip() for name in environment.get("TORCHELASTIC_SIGNALS_TO_HANDLE", _TORCHRUN_HANDLES).split(",")]
    if _AHEAD_OF_LIMITS in handled:
        return None
    option = f"--signals-to-handle={','.join([*handled, _AHEAD_OF_LIMITS])}"
    return (
        f"this is a job of {scheduler}, which may send {_AHEAD_OF_LIMITS} ahead of a time limit, and torchrun dies of it instead of"
        f" passing it on; start it as torchrun {option} … to have the run saved in time"
    )


class LauncherWatch(threading.Thread):
    """Looks after the launcher from a process that it started. When the launcher is gone, this process is sent SIGTERM, once.

    What has no handler for that ends by it; training finishes its step, saves, and ends.
    """

    def __init__(self, launcher: Process | None) -> None:
        """`launcher`: where it can be seen."""
        super().__init__(name="watch over the launcher", daemon=True)
        self._launcher, self._parent = launcher, os.getppid()
        self._lock, self._is_gone = threading.Lock(), False

    def run(self) -> None:
        while not self.is_gone():
            time.sleep(_POLL_S)

    def is_gone(self) -> bool:
        """Look. Whether the launcher is gone, which this process has then been told."""
        if not self._is_gone and not self._is_there():
            self.give_up("the launcher is gone")
        return self._is_gone

    def _is_there(self) -> bool:
        return os.getppid() == self._parent and (self._launcher is None or is_running(self._launcher.pid, self._launcher.began))

    def give_up(self, why: str) -> None:
        """Treat the launcher as gone, whether it is or not."""
        with self._lock:
            if not self._is_gone:
                self._is_gone = True
                log.warning("%s: what is under way is brought to an end", why)
                os.kill(os.getpid(), signal.SIGTERM)


_watch: LauncherWatch | None = None  # one for a process, which has one launcher


def watch_launcher(ranks: Ranks) -> None:
    """From now on this process is sent SIGTERM within seconds of its launcher's end; it ends at once if that is gone already."""
    global _watch
    if not ranks.is_launched or _watch is not None:
        return
    launcher = starter() if "TORCHELASTIC_RUN_ID" in os.environ else None
    if launcher is not None and not is_torchrun(launcher):
        print(f"rank {ranks.rank} leaves: its launcher is gone", file=sys.stderr, flush=True)
        os._exit(1)
    _watch = LauncherWatch(launcher)
    _watch.start()


def launcher_is_gone(why: str | None = None) -> bool:
    """Whether the launcher that `watch_launcher` looks after is gone. `why`: something else says that it is."""
    if _watch is not None and why is not None:
        _watch.give_up(why)
    return _watch is not None and _watch.is_gone()
