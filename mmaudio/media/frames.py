"""Which source frame stands for which output frame (data.md section 6.1), in exact arithmetic. No files here."""

from collections.abc import Iterable
from fractions import Fraction

from mmaudio.media.audio import MediaError


class FramePicker:
    """Fills output frames 0, 1, … at a rate from source frames in order of time: output n is the first with t ≥ n / rate.

    So a frame is repeated where the source is slower, and skipped where it is faster.
    """

    def __init__(self, rate_hz: int, count: int | None = None) -> None:
        self.rate_hz = rate_hz
        self.count = count
        self.filled = 0

    @property
    def is_done(self) -> bool:
        return self.count is not None and self.filled >= self.count

    def take(self, time_s: Fraction) -> int:
        """How many output frames the source frame at this time (≥ 0) fills."""
        reached = int(time_s * self.rate_hz) + 1  # outputs n with n / rate ≤ t
        if self.count is not None:
            reached = min(reached, self.count)
        fills = max(0, reached - self.filled)
        self.filled += fills
        return fills

    def hold(self) -> int:
        """Let the last frame stand for one output more, where one is missing: a source ends one frame before its duration."""
        fills = 1 if self.filled and not self.is_done else 0
        self.filled += fills
        return fills

    def check(self, what: str) -> None:
        """Raises: MediaError if output frames are missing."""
        if not self.is_done:
            raise MediaError(f"too short: {self.filled} of {self.count} {what} frames at {self.rate_hz} per second")


def pick_frames(times_s: Iterable[Fraction], rate_hz: int, count: int | None = None) -> list[int]:
    """Source index of every output frame, for source frames at these times in order."""
    picker = FramePicker(rate_hz, count)
    return [index for index, time_s in enumerate(times_s) for _ in range(picker.take(time_s))]
