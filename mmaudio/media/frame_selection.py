"""Which source frame stands for which output frame (data.md sections 6.1 and 6.3), in exact arithmetic. No files here."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from fractions import Fraction
from typing import NamedTuple

from mmaudio.media.audio import MediaError

FRAME_RULES = ("exact", "ffmpeg")
HALF = Fraction(1, 2)


class Fills(NamedTuple):
    """How many output frames are filled, now that a source frame is here: first by the frame before it, then by itself."""

    before: int
    now: int


def exact_seconds(duration_s: float) -> Fraction:
    """The decimal number a person meant: 3.3 is 33/10, though no float is."""
    return Fraction(str(duration_s))


class FramePicker(ABC):
    """Fills output frames 0, 1, … at a rate, in order, from source frames in order of time.

    `count` is how many output frames are wanted, None for as many as there are.
    """

    def __init__(self, rate_hz: int, count: int | None = None) -> None:
        self.rate_hz = rate_hz
        self.count = count
        self.filled = 0

    @property
    def is_full(self) -> bool:
        return self.count is not None and self.filled >= self.count

    @property
    def is_done(self) -> bool:
        """No later source frame can fill anything."""
        return self.is_full

    @abstractmethod
    def take(self, time_s: Fraction) -> Fills:
        """What is filled, now that the source frame at this time is here."""

    @abstractmethod
    def finish(self, ends_s: Fraction | None) -> int:
        """How many output frames the last source frame fills at the end of the stream (None: nobody knows when that is)."""

    def _fill_until(self, reached: int) -> int:
        """Fill the output frames below `reached`, and tell how many of them were not filled before."""
        if self.count is not None:
            reached = min(reached, self.count)
        fills = max(0, reached - self.filled)
        self.filled += fills
        return fills

    def check(self, what: str) -> None:
        """Raises: MediaError if output frames are missing."""
        if not self.is_full:
            raise MediaError(f"too short: {self.filled} of {self.count} {what} frames at {self.rate_hz} per second")


class ExactPicker(FramePicker):
    """Output n is the first source frame with t ≥ n / rate (data.md section 6.1).

    So a frame is repeated where the source is slower, and skipped where it is faster. Only source frames with
    0 ≤ t ≤ end_s count, both included.
    """

    def __init__(self, rate_hz: int, count: int | None = None, end_s: Fraction | None = None) -> None:
        super().__init__(rate_hz, count)
        self.end_s = end_s
        self.is_past_end = False

    @property
    def is_done(self) -> bool:
        return self.is_full or self.is_past_end

    def take(self, time_s: Fraction) -> Fills:
        if self.end_s is not None and time_s > self.end_s:
            self.is_past_end = True
        if time_s < 0 or self.is_done:
            return Fills(0, 0)
        return Fills(0, self._fill_until(int(time_s * self.rate_hz) + 1))  # outputs n with n / rate ≤ t

    def finish(self, ends_s: Fraction | None) -> int:  # noqa: ARG002 - it does not matter here
        """Hold the last frame for one output more, where one is missing: a source ends one frame before its duration.

        That output lies at most one output interval after the last frame.
        """
        return self._fill_until(self.filled + 1) if self.filled and self.count is not None else 0


class FfmpegPicker(FramePicker):
    """Output n is the last source frame that rounds to slot q_0 + n or below, as FFmpeg's `fps` filter has it (section 6.3).

    A frame at time t rounds to slot q = t · rate, halves away from zero; q_0 is that of the first frame, so numbering
    starts there, wherever it lies. The last frame is held until the end of the stream, rounded likewise.
    """

    def __init__(self, rate_hz: int, count: int | None = None) -> None:
        super().__init__(rate_hz, count)
        self.first_slot: int | None = None
        self.last_slot = 0

    def take(self, time_s: Fraction) -> Fills:
        self.last_slot = self._slot(time_s)
        if self.first_slot is None:
            self.first_slot = self.last_slot
        return Fills(self._fill_until(self.last_slot - self.first_slot), 0)

    def finish(self, ends_s: Fraction | None) -> int:
        if self.first_slot is None:
            return 0
        end_slot = self.last_slot + 1 if ends_s is None else self._slot(ends_s)
        return self._fill_until(end_slot - self.first_slot)

    def _slot(self, time_s: Fraction) -> int:
        slot = int(abs(time_s) * self.rate_hz + HALF)
        return slot if time_s >= 0 else -slot


def new_picker(rule: str, rate_hz: int, count: int, end_s: Fraction) -> FramePicker:
    """A picker by one of FRAME_RULES for so many output frames; `end_s` is for the exact rule. Raises: ValueError for another."""
    if rule == "exact":
        return ExactPicker(rate_hz, count, end_s)
    if rule == "ffmpeg":
        return FfmpegPicker(rate_hz, count)
    raise ValueError(f"frame_rule is {rule!r}; want one of {', '.join(FRAME_RULES)}")


def pick_frames(times_s: Iterable[Fraction], picker: FramePicker) -> list[int]:
    """Source index of every output frame that a new picker fills, before the end of the stream, from frames at these times."""
    picked: list[int] = []
    for index, time_s in enumerate(times_s):
        fills = picker.take(time_s)
        picked += [index - 1] * fills.before + [index] * fills.now
    return picked


def covered_s(pickers: Iterable[FramePicker], wanted_s: Fraction) -> Fraction:
    """The seconds that every stream covers: what is wanted, or what the shortest one has (data.md section 6.2, points 3 and 4)."""
    return min([wanted_s, *(Fraction(picker.filled, picker.rate_hz) for picker in pickers if not picker.is_full)])
