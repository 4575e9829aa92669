"""Processes as others of their machine see them: which one it is, whether it still runs, and which of them started it."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_TORCHRUN = "pt_elastic"  # what torchrun calls its process


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
        return cls(machine, os.getpid(), Process.read("self").began)

    def is_seen_from(self, other: "Place") -> bool:
        """Whether it runs where this process can see it; `other` is this process's place. A stopped process runs, a zombie does not."""
        return self.machine == other.machine and is_running(self.pid, self.began)


@dataclass(frozen=True)
class Process:
    """A process of this machine, as far as this process can see it: `parent` 0 is one that cannot be seen from here."""

    pid: int
    name: str
    is_dead: bool  # only waits to be buried
    parent: int
    session: int
    began: int

    @classmethod
    def read(cls, pid: int | str) -> "Process":
        """Raises: FileNotFoundError or ProcessLookupError where there is none."""
        before, _, after = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")  # the name may hold anything
        number, _, name = before.partition(" (")
        fields = after.split()
        return cls(int(number), name, fields[0] in "ZX", int(fields[1]), int(fields[3]), int(fields[19]))


def is_running(pid: int, began: int) -> bool:
    """Whether the process that began then under this number still runs."""
    try:
        process = Process.read(pid)
    except (FileNotFoundError, ProcessLookupError):
        return False
    return process.began == began and not process.is_dead


def starter() -> Process | None:
    """Who started the session of this process: its parent, or above that, where a wrapper or an interpreter stands between.

    torchrun starts each of its processes in a session of its own; where it is gone, this is whoever adopted them.
    Returns: None where that cannot be seen, as from inside of a container.
    """
    mine = Process.read("self").session
    return next((each for each in _above() if each.session != mine), None)


def _above() -> Iterator[Process]:
    parent = Process.read("self").parent
    while parent:
        try:
            process = Process.read(parent)
        except (FileNotFoundError, ProcessLookupError):  # it has ended since: whoever adopts its children is above them now
            yield from _above()
            return
        yield process
        parent = process.parent


def is_torchrun(process: Process) -> bool:
    """Whether a process is a launcher of torch: by its name, or a program of this interpreter that launches in its own way."""
    return process.name == _TORCHRUN or _program(process.pid) == _program("self")


def _program(pid: int | str) -> str | None:
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:  # it is another user's, or gone
        return None
