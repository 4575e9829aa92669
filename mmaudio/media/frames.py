"""Which source frame stands for which output frame (data.md section 6.1), in exact arithmetic. No files here."""

from collections.abc import Iterable
from fractions import Fraction

from mmaudio.media.audio import MediaError


def exact_seconds(duration_s: float) -> Fraction:
    """The decimal number a person meant: 3.3 is 33/10, though no float is."""
    return Fraction(str(duration_s))


class FramePicker:
    """Fills output frames 0, 1, … at a rate from source frames in order of time: output n is the first with t ≥ n / rate.

    So a frame is repeated where the source is slower, and skipped where it is faster. Only source frames with
    0 ≤ t ≤ end_s count, both included; `count` is how many output frames are wanted, None for as many as there are.
    """

    def __init__(self, rate_hz: int, end_s: Fraction | None = None, count: int | None = None) -> None:
        self.rate_hz = rate_hz
        self.end_s = end_s
        self.count = count
        self.filled = 0
        self.is_past_end = False

    @property
    def is_full(self) -> bool:
        return self.count is not None and self.filled >= self.count

    @property
    def is_done(self) -> bool:
        """No later source frame can fill anything."""
        return self.is_full or self.is_past_end

    def take(self, time_s: Fraction) -> int:
        """How many output frames the source frame at this time fills."""
        if self.end_s is not None and time_s > self.end_s:
            self.is_past_end = True
        if time_s < 0 or self.is_done:
            return 0
        reached = int(time_s * self.rate_hz) + 1  # outputs n with n / rate ≤ t
        if self.count is not None:
            reached = min(reached, self.count)
        fills = max(0, reached - self.filled)
        self.filled += fills
        return fills

    def hold(self) -> int:
        """Let the last frame stand for one output more, where one is missing: a source ends one frame before its duration.

        That output lies at most one output interval after the last frame. Returns how many outputs it fills, 0 or 1.
        """
        fills = 1 if self.filled and self.count is not None and not self.is_full else 0
        self.filled += fills
        return fills

    def check(self, what: str) -> None:
        """Raises: MediaError if output frames are missing."""
        if not self.is_full:
            raise MediaError(f"too short: {self.filled} of {self.count} {what} frames at {self.rate_hz} per second")


def pick_frames(times_s: Iterable[Fraction], rate_hz: int, end_s: Fraction | None = None, count: int | None = None) -> list[int]:
    """Source index of every output frame, for source frames at these times in order."""
    picker = FramePicker(rate_hz, end_s, count)
    return [index for index, time_s in enumerate(times_s) for _ in range(picker.take(time_s))]


def covered_s(pickers: Iterable[FramePicker], wanted_s: Fraction) -> Fraction:
    """The seconds that every stream covers: what is wanted, or what the shortest one has (data.md section 6.2, points 3 and 4)."""
    return min([wanted_s, *(Fraction(picker.filled, picker.rate_hz) for picker in pickers if not picker.is_full)])
