"""A watch over the processes of a job: when one of them fails, is killed or hangs, all end, and it is said once which and why.

Each process has a thread that tells the others every `TICK_S` how far it is and reads whether the job ends. The process of rank 0
reads what all of them tell; so the traffic of a tick is a few requests per process. A process is lost if others of its machine
see it gone, or if nothing is heard of it and nobody who is heard sees it running: one that is stopped, or busy, is not lost.

Where the launcher is gone, and with it the place where all met, every process has been sent SIGTERM (`ranks.LauncherWatch`) and brings its
work to an end by itself. The watch then only sees to it that this does not take for ever.
"""

import datetime
import logging
import math
import os
import signal
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import torch.distributed as dist
from torch._C._distributed_c10d import Store

from mmaudio.base.errors import EXIT_BUG, EXIT_REQUEUE, UserError, exit_code, tell
from mmaudio.distributed.collectives import is_of_collective
from mmaudio.distributed.heartbeat import (
    TICK_S,
    AwakeClock,
    Beat,
    Heartbeat,
    JobEnd,
    JobStatus,
    ProcessId,
    SilentRanks,
    Stall,
    all_stacks,
    lost_ranks,
    progress_words,
)
from mmaudio.distributed.ranks import Ranks, launcher_holds_store, launcher_is_gone

LOST_AFTER_S = 12.0  # of silence, for a process that only other machines could hear of
ORPHANED_FOR_S = 600.0  # without progress, for a process whose launcher is gone: the last save may take long
_SETTLE_S = 3.0  # in which whoever failed leaves first, and a launcher reports that one
_MEETING = datetime.timedelta(minutes=30)  # how long a process waits for the others at the start
log = logging.getLogger(__name__)


@contextmanager
def watch_ranks(ranks: Ranks, store: Store | None, hang_timeout_s: float) -> Iterator[Heartbeat]:
    """Collective. Watch over this job for the block, once for each process group; call `beat` of what it gives at every step.

    In the main thread. Where one process raises, is killed, or none makes progress any more, every process ends, also out of a
    collective: with the exit code of the first error, which alone is shown in full. A single process only writes its stacks to
    its log when it hangs.

    Args:
        store: of the `process_group`, None for a single process.
        hang_timeout_s: how long no process at all may be without a beat.
    """
    heartbeat = Heartbeat()
    if store is None:
        with _running(_StallWatch(heartbeat, hang_timeout_s)):
            yield heartbeat
        return
    watch = _RankWatch(ranks, store, heartbeat, hang_timeout_s)
    with _running(watch), _raising_on_sigterm():
        try:
            yield heartbeat
        except BaseException as error:
            if exit_code(error):
                watch.fail(error)
            raise
        finally:
            watch.take_leave()


@contextmanager
def _running(watch: "_Watch") -> Iterator[None]:
    watch.start()
    try:
        yield
    finally:
        watch.is_over.set()
        watch.join(timeout=2 * TICK_S)  # it may be waiting for a store that does not answer, and is no longer needed


class _Terminated(SystemExit):
    """A launcher asked this process to end, often since another one failed."""


@contextmanager
def _raising_on_sigterm() -> Iterator[None]:
    """For the block, SIGTERM raises instead of ending this process at once, so that there is time to say why."""

    def handle(*_: object) -> None:
        raise _Terminated(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Watch(threading.Thread, ABC):
    """Looks every `TICK_S`, until it is over."""

    def __init__(self, heartbeat: Heartbeat, hang_timeout_s: float) -> None:
        super().__init__(name="watch over ranks", daemon=True)
        self.heartbeat, self.hang_timeout_s = heartbeat, hang_timeout_s
        self.clock, self.stall, self.is_over = AwakeClock(), Stall(heartbeat), threading.Event()
        self.alone_since_s = math.inf

    def run(self) -> None:
        while not self.is_over.wait(TICK_S):
            self.clock.tick()
            if launcher_is_gone():
                self.alone_since_s = min(self.alone_since_s, self.clock.now_s)
                self.look_alone()
            else:
                self.look()

    def look_alone(self) -> None:
        """Look once, the launcher being gone."""
        now_s, limit_s = self.clock.now_s, min(self.hang_timeout_s, ORPHANED_FOR_S)
        idle_s = min(self.stall.idle_s(now_s), now_s - self.alone_since_s)
        if idle_s > limit_s and not self.is_over.is_set():
            log.error("the launcher is gone, and there was no progress for %.0f s; this process leaves, from\n%s", idle_s, all_stacks())
            _leave(EXIT_BUG)

    @abstractmethod
    def look(self) -> None:
        """Look once."""


class _StallWatch(_Watch):
    """Over a single process, which nobody waits for: it is reported but not ended."""

    _told: object = None

    def look(self) -> None:
        what, steps_done, _ = last = self.heartbeat.last
        idle_s = self.stall.idle_s(self.clock.now_s)
        if idle_s > self.hang_timeout_s and last is not self._told:
            self._told = last
            log.error("no progress for %.0f s since %s, %d steps done; this process is at\n%s", idle_s, what, steps_done, all_stacks())


class _RankWatch(_Watch):
    """Over all processes of a job, from one of them."""

    def __init__(self, ranks: Ranks, store: Store, heartbeat: Heartbeat, hang_timeout_s: float) -> None:
        super().__init__(heartbeat, hang_timeout_s)
        self.ranks, self.has_left, self.count = ranks, False, 0
        self.status, self.threads_status = JobStatus(store, ranks.rank), JobStatus(store, ranks.rank)
        self.silences, self.first_silent_s, self.without_s = SilentRanks(), 0.0, math.inf
        self.ends, self._telling = threading.Event(), threading.Lock()
        self.ending: JobEnd | None = None
        self.place, self.mates = ProcessId.here(), tuple[int, ...]()
        self.places = self.status.meet(self.place, self._reading(), ranks.world_size, _MEETING)
        self.mates = tuple(rank for rank in range(ranks.world_size) if rank != ranks.rank and self._sees(rank))

    def _sees(self, rank: int) -> bool:
        return self.places[rank].is_seen_from(self.place)

    def _reading(self) -> Beat:
        self.count += 1
        what, steps_done, _ = self.heartbeat.last
        return Beat(self.ranks.rank, self.count, what, steps_done, self.stall.idle_s(self.clock.now_s), self.has_left, self.mates)

    def _tell(self, status: JobStatus) -> None:
        """In order, whichever thread it is: what was read before this process took leave must not arrive after it."""
        with self._telling:
            status.write(self._reading())

    def _gone(self) -> list[int]:
        return [rank for rank in self.mates if not self._sees(rank)]

    # ---- in the thread

    def look_alone(self) -> None:
        """Whether the others failed or are done nobody can say any more; without them, only what is almost done comes to its end."""
        super().look_alone()
        gone = self._gone()
        self.without_s = min(self.without_s, self.clock.now_s) if gone else math.inf
        if self.clock.now_s - self.without_s > LOST_AFTER_S:
            self._obey(JobEnd("lost", gone[0], "its process is gone, and so is the launcher"))

    def look(self) -> None:
        ending = self._find_ending(self._gone())
        if ending is not None and not self.is_over.is_set():
            self._obey(ending)

    def _find_ending(self, gone: list[int]) -> JobEnd | None:
        no_store = JobEnd("lost", 0, "its process is gone, and with it the place where all met")
        if 0 in gone and self.ranks.meeting and not self.has_left:  # rank 0 takes leave last; torch would print its own insides
            return no_store
        try:
            self._tell(self.threads_status)
            return self.threads_status.ending() or self._judge(gone)
        except dist.DistStoreError:  # it did not answer in time
            return None
        except dist.DistError:
            if launcher_holds_store() and launcher_is_gone("the launcher where all processes met is gone"):
                return None
            return no_store

    def _judge(self, gone: list[int]) -> JobEnd | None:
        """Whether the job has to end, as far as this process can tell."""
        readings = self.threads_status.read(range(self.ranks.world_size) if self._reads_all() else sorted({0, *gone}))
        silent_s = self.silences.after(readings.values(), self.clock.now_s, is_regular=self.clock.is_regular)
        self.first_silent_s = silent_s[0]
        lost = [rank for rank in gone if not readings[rank].has_left] or lost_ranks(readings, silent_s, self.mates, LOST_AFTER_S)
        if lost:
            return self.threads_status.claim(JobEnd("lost", lost[0], "its process was killed, or its machine is gone"))
        idle_s = [reading.idle_s + silent_s[rank] for rank, reading in readings.items() if not reading.has_left]
        if len(readings) == self.ranks.world_size and idle_s and min(idle_s) > self.hang_timeout_s:
            return self.threads_status.claim(JobEnd("hang", self.ranks.rank, f"no process made progress for {min(idle_s):.0f} s"))
        return None

    def _reads_all(self) -> bool:
        """Rank 0 reads what all tell; another one only where rank 0, which it listens to, does not seem to."""
        is_late = self.stall.idle_s(self.clock.now_s) > self.hang_timeout_s + 2 * LOST_AFTER_S
        return self.ranks.is_first or is_late or self.first_silent_s > 2 * TICK_S

    def _obey(self, ending: JobEnd) -> None:
        """End this process, once the one that is to be heard has spoken."""
        self.ending = ending
        self.ends.set()
        if ending.kind == "error" and ending.rank == self.ranks.rank:
            return  # the main thread tells it
        if ending.kind == "hang":
            self._report(ending)
        elif ending.code not in (UserError.exit_code, EXIT_REQUEUE):  # a mistake is told by the process that found it, a signal by rank 0
            log.error("rank %d leaves: rank %d failed first: %s", self.ranks.rank, ending.rank, ending.why)
        self.is_over.wait(_SETTLE_S)
        _leave(ending.code)

    def _report(self, ending: JobEnd) -> None:
        log.error("rank %d hangs:\n%s", self.ranks.rank, all_stacks())
        if ending.rank == self.ranks.rank:
            words = progress_words(self.threads_status.read(range(self.ranks.world_size)).values())
            advice = "each process has written its stacks to its log; if it was busy, as with a long compilation, raise hang_timeout_s"
            log.error("%s:\n%s\n%s", ending.why, words, advice)

    # ---- in the main thread

    def fail(self, error: BaseException) -> NoReturn:
        """End this process because of an error: with it if it is the first of the job, else after a line that names the first."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if launcher_is_gone():  # nobody to agree with, and most errors are of somebody else's end
            if not _is_of_end(error):
                tell(error)
            _leave(exit_code(error))
        if _is_of_end(error):  # of somebody else's end, most likely, which the thread is about to find
            self.ends.wait(LOST_AFTER_S + 3 * TICK_S)
        own = JobEnd("error", self.ranks.rank, f"{type(error).__name__}: {str(error).partition(chr(10))[0]}", exit_code(error))
        first = self.ending or self._claim(own)
        if first == own:
            tell(error)
            if self.ranks.is_first and self.ranks.meeting:  # the others read here who failed, and stay longer than that
                time.sleep(TICK_S + 0.5)
        else:
            time.sleep(TICK_S + 2 * _SETTLE_S)  # the thread speaks, and leaves before
        _leave(first.code)

    def _claim(self, ending: JobEnd) -> JobEnd:
        try:
            return self.status.claim(ending)
        except dist.DistError:
            return ending

    def take_leave(self) -> None:
        """Collective. Let the others know that this process is done; rank 0, through which they may have met, goes last."""
        self.has_left = True
        if launcher_is_gone() and len(self.mates) + 1 == self.ranks.world_size:  # on one machine nobody can be told any more
            return
        try:
            self._tell(self.status)
            while self.ranks.is_first and not all(each.has_left for each in self.status.read(range(self.ranks.world_size)).values()):
                time.sleep(TICK_S / 20)
        except dist.DistError:
            if not launcher_holds_store():  # that is gone, then, and this process is done
                raise


def _is_of_end(error: BaseException) -> bool:
    """Whether an error most likely comes of the end of another process."""
    return isinstance(error, _Terminated) or is_of_collective(error)


def _leave(code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # nothing else ends a process whose main thread waits in a collective
