"""Which process this is, of how many, by torchrun's or SLURM's environment, and whether its launcher is there. Without torch."""

import logging
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from mmaudio.base.errors import UserError
from mmaudio.distributed.heartbeat import Process, is_running, is_torchrun, starter

log = logging.getLogger(__name__)
_SCHEDULERS = {"SLURM": ("SLURM_JOB_ID", "SLURM_JOBID"), "PBS": ("PBS_JOBID",), "LSF": ("LSB_JOBID",), "Grid Engine": ("SGE_TASK_ID",)}
_TORCHRUN_HANDLES = "SIGTERM,SIGINT,SIGHUP,SIGQUIT"  # where nothing else is asked for
_AHEAD_OF_LIMITS = "SIGUSR1"  # what schedulers send


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


# ---- The end of the launcher, which is the end of what it launched

_POLL_S = 1.0  # between two looks at the launcher


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


def launcher_holds_store() -> bool:
    """Whether the processes meet in their launcher (torchrun's), and not in the process of rank 0."""
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


# ---- What `srun` tells the tasks of a step through their environment: which of how many each is, and where they can meet

_FIRST_PORT, _NUM_PORTS = 10000, 20000  # below what Linux gives to outgoing connections


@dataclass(frozen=True)
class SlurmTask:
    """One task of a step that has several. `address` and `port` are where rank 0 can be met."""

    rank: int
    num_tasks: int
    local_rank: int
    num_local_tasks: int
    address: str
    port: int


def slurm_task(environment: Mapping[str, str]) -> SlurmTask | None:
    """The task this process is; None outside of a step, or in one of a single task.

    A shell in an allocation (`salloc`, or a batch script) has SLURM_NTASKS but is no task of a step.
    MASTER_ADDR and MASTER_PORT come before what the step says.
    Raises: UserError for an environment that does not say what is needed.
    """
    if "SLURM_PROCID" not in environment or not ("SLURM_STEP_ID" in environment or "SLURM_STEPID" in environment):
        return None
    num_tasks = _slurm_number(environment, "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS")
    if num_tasks == 1:
        return None
    address = environment.get("MASTER_ADDR") or _first_host(environment)
    port = _slurm_number(environment, "MASTER_PORT") if environment.get("MASTER_PORT") else _port(environment)
    rank, local_rank = _slurm_number(environment, "SLURM_PROCID"), _slurm_number(environment, "SLURM_LOCALID")
    return SlurmTask(rank, num_tasks, local_rank, _num_local_tasks(environment, num_tasks), address, port)


def _slurm_number(environment: Mapping[str, str], *names: str) -> int:
    for name in names:
        if environment.get(name, "").isdecimal():
            return int(environment[name])
    raise UserError(f"this process runs under srun, but {' and '.join(names)} is no number; start it with torchrun instead")


def _num_local_tasks(environment: Mapping[str, str], num_tasks: int) -> int:
    if tasks := environment.get("SLURM_STEP_TASKS_PER_NODE"):
        return expand_counts(tasks)[_slurm_number(environment, "SLURM_NODEID")]
    if environment.get("SLURM_STEP_NUM_NODES", environment.get("SLURM_NNODES")) == "1":
        return num_tasks
    return _slurm_number(environment, "SLURM_NTASKS_PER_NODE")


def _port(environment: Mapping[str, str]) -> int:
    """A port that two steps of one machine hardly share."""
    step = environment.get("SLURM_STEP_ID", environment.get("SLURM_STEPID", "0"))
    return _FIRST_PORT + (_slurm_number(environment, "SLURM_JOB_ID", "SLURM_JOBID") * 37 + int(step)) % _NUM_PORTS


def _first_host(environment: Mapping[str, str]) -> str:
    """Where rank 0 runs. Where srun was called from, SLURM_LAUNCH_NODE_IPADDR, may be another machine; it is the last resort."""
    hosts = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_JOB_NODELIST") or environment.get("SLURM_NODELIST")
    found = first_host(hosts) if hosts else environment.get("SLURM_LAUNCH_NODE_IPADDR")
    if not found:
        raise UserError("this process runs under srun, which does not say on which machines; set MASTER_ADDR to that of the first task")
    return found


def expand_counts(text: str) -> list[int]:
    """Tasks per machine, in order: "4(x2),3" → [4, 4, 3]. Raises: UserError for other text."""
    counts = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part)
        if not match:
            raise UserError(f"SLURM_STEP_TASKS_PER_NODE is {text!r}; want something like 4(x2),3")
        counts += [int(match[1])] * int(match[2] or 1)
    return counts


def first_host(hosts: str) -> str:
    """The first of a list of machines: "gpu[07-09,12]-ib,login" → "gpu07-ib"."""
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])+", hosts)  # up to a comma outside of brackets
    return re.sub(r"\[(\w+)[^\]]*\]", r"\1", first[0]) if first else ""
