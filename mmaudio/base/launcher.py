"""Which process this is, of how many, as the launcher's environment says. Needs no torch."""

import os
from dataclasses import dataclass

from mmaudio.base.errors import UserError
from mmaudio.base.slurm import slurm_task


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
