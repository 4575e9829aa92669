"""The processes of a job: which they are, whether they run, how far each is, and what the others read of it."""

import datetime
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # who this process is has to be known without torch
    from torch._C._distributed_c10d import Store

_TORCHRUN = "pt_elastic"  # what torchrun calls its process
TICK_S = 2.0  # between two looks at the others
_RECONNECT = datetime.timedelta(seconds=10)  # how long a store may take to answer


# ---- Processes as others of their machine see them: which one it is, whether it still runs, and which of them started it


@dataclass(frozen=True)
class ProcessId:
    """A process: which start of which machine it belongs to, its number there, and when it began (in that machine's clock ticks)."""

    machine: str
    pid: int
    began: int

    @classmethod
    def here(cls) -> "ProcessId":
        """This process's."""
        machine = f"{os.uname().nodename} {Path('/proc/sys/kernel/random/boot_id').read_text().strip()}"
        return cls(machine, os.getpid(), Process.read("self").began)

    def is_seen_from(self, other: "ProcessId") -> bool:
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


# ---- How far a process got, and how long ago: what it notes at every step, what others read of that, how long they did not hear of it


class Heartbeat:
    """The last step or batch that this process began or ended. Costs nothing: it is read by another thread."""

    def __init__(self) -> None:
        self.last = ("start", 0, 0)  # what, finished steps, number of beats: one assignment, so that a reader never sees half of it

    def beat(self, what: str, steps_done: int) -> None:
        """Note progress, such as ("train", 100), or ("valid", 100) once a batch."""
        self.last = (what, steps_done, self.last[2] + 1)


class AwakeClock:
    """Counts the seconds for which someone ticks it regularly.

    After a gap (this process was stopped, its machine slept, a call took long) it goes on as if only two ticks had passed, so that
    nobody is judged by time in which nobody looked.
    """

    def __init__(self, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._monotonic_s = monotonic_s
        self._last_s = monotonic_s()
        self.now_s, self.is_regular = 0.0, True

    def tick(self) -> None:
        """Count the time since the last tick; `is_regular` is whether that was no gap."""
        before_s, self._last_s = self._last_s, self._monotonic_s()
        passed_s = self._last_s - before_s
        self.now_s += min(passed_s, 2 * TICK_S)
        self.is_regular = passed_s <= 2 * TICK_S


class Stall:
    """How long a heartbeat has not beaten."""

    def __init__(self, heartbeat: Heartbeat) -> None:
        self._heartbeat, self._seen, self._since_s = heartbeat, heartbeat.last, 0.0

    def idle_s(self, now_s: float) -> float:
        """Seconds without a beat, as far as was looked."""
        if self._heartbeat.last is not self._seen:
            self._seen, self._since_s = self._heartbeat.last, now_s
        return now_s - self._since_s


@dataclass(frozen=True)
class Beat:
    """What a process tells the others of itself: a `count` that rises, how far it is, and for how long it has been there."""

    rank: int
    count: int
    what: str
    steps_done: int
    idle_s: float
    has_left: bool
    mates: tuple[int, ...]  # the ranks whose processes it sees running

    def to_text(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> "Beat":
        content = json.loads(text)
        return cls(**content | {"mates": tuple(content["mates"])})


class SilentRanks:
    """For how long each process has told nothing new."""

    def __init__(self) -> None:
        self._heard: dict[int, tuple[int, float]] = {}  # rank → count, and when it was first read

    def after(self, readings: Collection[Beat], now_s: float, *, is_regular: bool) -> dict[int, float]:
        """Seconds by rank. After a gap (not `is_regular`) everybody has as long as in the beginning to be heard."""
        for reading in readings:
            if not is_regular or self._heard.get(reading.rank, (-1, 0.0))[0] != reading.count:
                self._heard[reading.rank] = (reading.count, now_s)
        return {reading.rank: now_s - self._heard[reading.rank][1] for reading in readings}


def lost_ranks(readings: Mapping[int, Beat], silent_s: Mapping[int, float], mates: Collection[int], limit_s: float) -> list[int]:
    """The ranks that said nothing for `limit_s`, did not take leave, and that nobody who speaks sees running.

    `mates`: those that this process sees itself.
    """
    speaking = [reading for reading in readings.values() if silent_s[reading.rank] <= limit_s]
    seen = {mate for reading in speaking for mate in reading.mates}.union(mates)
    return [rank for rank, s in silent_s.items() if s > limit_s and not readings[rank].has_left and rank not in seen]


def progress_words(readings: Collection[Beat]) -> str:
    """A line for each process: where it is and since when; behind it, whether it is the one the others wait for."""
    present = sorted(readings, key=lambda reading: reading.rank)
    furthest = max(reading.steps_done for reading in present)
    same = len({(reading.what, reading.steps_done) for reading in present if not reading.has_left}) <= 1
    lines = []
    for reading in present:
        role = "has left" if reading.has_left else "" if same else "lags" if reading.steps_done < furthest else "waits"
        place = f"rank {reading.rank}: {reading.what}, {reading.steps_done} steps done, {reading.idle_s:.0f} s ago"
        lines.append(f"{place}; {role}" if role else place)
    return "\n".join(lines)


def all_stacks() -> str:
    """The Python stacks of all threads of this process but the one that asks, the main one first."""
    frames, me = sys._current_frames(), threading.get_ident()
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    order = sorted((ident for ident in frames if ident != me), key=lambda ident: ident != threading.main_thread().ident)
    return "\n".join(f"thread {names.get(ident, ident)}:\n{''.join(traceback.format_stack(frames[ident]))}".rstrip() for ident in order)


# ---- What the processes of a job tell each other: how far each is, and why the job ends


@dataclass(frozen=True)
class JobEnd:
    """Why a job ends: the first of its processes that failed, and the exit code that all of them leave with.

    `kind`: it raised an `error`, it is `lost` (killed, or not heard of any more), or `hang`: it says that nobody makes progress.
    """

    kind: str
    rank: int
    why: str
    code: int = 1


class JobStatus:
    """One connection to the store of a process group. Not for two threads: each has its own."""

    def __init__(self, store: "Store", rank: int) -> None:
        from torch._C._distributed_c10d import PrefixStore

        own = store.clone()  # type: ignore[attr-defined]  # not in the stubs of torch 2.11
        own.set_timeout(_RECONNECT)
        self._store, self._rank = PrefixStore("peers", own), rank

    def meet(self, place: ProcessId, first: Beat, world_size: int, limit: datetime.timedelta) -> list[ProcessId]:
        """Tell where this process is; wait until all have. Returns: the places by rank. Raises: DistStoreError after `limit`."""
        self._store.set(f"reading/{self._rank}", first.to_text())
        self._store.set(f"place/{self._rank}", json.dumps(asdict(place)))
        names = [f"place/{rank}" for rank in range(world_size)]
        self._store.wait(names, limit)
        return [ProcessId(**json.loads(text)) for text in self._store.multi_get(names)]

    def write(self, reading: Beat) -> None:
        """Replace what this process told. When it returns, the others can read it."""
        self._store.set(f"reading/{self._rank}", reading.to_text())
        self._store.check([f"reading/{self._rank}"])  # `set` alone does not wait for the answer

    def read(self, ranks: Iterable[int]) -> dict[int, Beat]:
        """What these processes told last, in one request."""
        wanted = list(ranks)
        texts = self._store.multi_get([f"reading/{rank}" for rank in wanted]) if wanted else []
        return {rank: Beat.from_text(text.decode()) for rank, text in zip(wanted, texts, strict=True)}

    def ending(self) -> JobEnd | None:
        """Why the job ends, if it does."""
        return JobEnd(**json.loads(self._store.get("ending"))) if self._store.check(["ending"]) else None

    def claim(self, ending: JobEnd) -> JobEnd:
        """Say why the job ends. Returns: the one who said so first, which may be another."""
        return JobEnd(**json.loads(self._store.compare_set("ending", "", json.dumps(asdict(ending)))))
