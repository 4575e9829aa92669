"""Processes as others of their machine see them: which one it is, and whether it still runs."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Place:
    """A process: which start of which machine it belongs to, its number there, and when it began (in that machine's clock ticks)."""

    machine: str
    pid: int
    began: int

    @classmethod
    def here(cls) -> "Place":
        """This process's."""
        machine = f"{os.uname().nodename} {Path('/proc/sys/kernel/random/boot_id').read_text().strip()}"
        return cls(machine, os.getpid(), _began("self"))

    def is_seen_from(self, other: "Place") -> bool:
        """Whether it runs where this process can see it; `other` is this process's place. A stopped process runs, a zombie does not."""
        if self.machine != other.machine:
            return False
        try:
            return _began(str(self.pid)) == self.began
        except (FileNotFoundError, ProcessLookupError):
            return False


def _began(process: str) -> int:
    """When a process of this machine began; -1 if it is dead and only waits to be buried. Raises: FileNotFoundError where there is none."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()  # the name before may hold anything
    return -1 if fields[0] in "ZX" else int(fields[19])
