"""How far a process got, and how long ago: what it notes at every step, what others read of that, how long they did not hear of it."""

import json
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass

TICK_S = 2.0  # between two looks at the others


class Pulse:
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
    """How long a pulse has not beaten."""

    def __init__(self, pulse: Pulse) -> None:
        self._pulse, self._seen, self._since_s = pulse, pulse.last, 0.0

    def idle_s(self, now_s: float) -> float:
        """Seconds without a beat, as far as was looked."""
        if self._pulse.last is not self._seen:
            self._seen, self._since_s = self._pulse.last, now_s
        return now_s - self._since_s


@dataclass(frozen=True)
class Reading:
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
    def from_text(cls, text: str) -> "Reading":
        content = json.loads(text)
        return cls(**content | {"mates": tuple(content["mates"])})


class Silences:
    """For how long each process has told nothing new."""

    def __init__(self) -> None:
        self._heard: dict[int, tuple[int, float]] = {}  # rank → count, and when it was first read

    def after(self, readings: Collection[Reading], now_s: float, *, is_regular: bool) -> dict[int, float]:
        """Seconds by rank. After a gap (not `is_regular`) everybody has as long as in the beginning to be heard."""
        for reading in readings:
            if not is_regular or self._heard.get(reading.rank, (-1, 0.0))[0] != reading.count:
                self._heard[reading.rank] = (reading.count, now_s)
        return {reading.rank: now_s - self._heard[reading.rank][1] for reading in readings}


def lost_ranks(readings: Mapping[int, Reading], silent_s: Mapping[int, float], mates: Collection[int], limit_s: float) -> list[int]:
    """The ranks that said nothing for `limit_s`, did not take leave, and that nobody who speaks sees running.

    `mates`: those that this process sees itself.
    """
    speaking = [reading for reading in readings.values() if silent_s[reading.rank] <= limit_s]
    seen = {mate for reading in speaking for mate in reading.mates}.union(mates)
    return [rank for rank, s in silent_s.items() if s > limit_s and not readings[rank].has_left and rank not in seen]


def progress_words(readings: Collection[Reading]) -> str:
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
