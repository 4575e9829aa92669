"""What `srun` tells the tasks of a step through their environment: which of how many each is, and where they can meet."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from mmaudio.base.errors import UserError

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
    num_tasks = _number(environment, "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS")
    if num_tasks == 1:
        return None
    address = environment.get("MASTER_ADDR") or _first_host(environment)
    port = _number(environment, "MASTER_PORT") if environment.get("MASTER_PORT") else _port(environment)
    rank, local_rank = _number(environment, "SLURM_PROCID"), _number(environment, "SLURM_LOCALID")
    return SlurmTask(rank, num_tasks, local_rank, _num_local_tasks(environment, num_tasks), address, port)


def _number(environment: Mapping[str, str], *names: str) -> int:
    for name in names:
        if environment.get(name, "").isdecimal():
            return int(environment[name])
    raise UserError(f"this process runs under srun, but {' and '.join(names)} is no number; start it with torchrun instead")


def _num_local_tasks(environment: Mapping[str, str], num_tasks: int) -> int:
    if tasks := environment.get("SLURM_STEP_TASKS_PER_NODE"):
        return expand_counts(tasks)[_number(environment, "SLURM_NODEID")]
    if environment.get("SLURM_STEP_NUM_NODES", environment.get("SLURM_NNODES")) == "1":
        return num_tasks
    return _number(environment, "SLURM_NTASKS_PER_NODE")


def _port(environment: Mapping[str, str]) -> int:
    """A port that two steps of one machine hardly share."""
    step = environment.get("SLURM_STEP_ID", environment.get("SLURM_STEPID", "0"))
    return _FIRST_PORT + (_number(environment, "SLURM_JOB_ID", "SLURM_JOBID") * 37 + int(step)) % _NUM_PORTS


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
