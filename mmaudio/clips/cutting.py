"""Where a recording of a known length is cut: whole numbers in, whole numbers out (data.md section 2)."""

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import ceil, inf

from mmaudio.base.errors import UserError, nearest

CLIP_LENGTH_S = 8.1  # a little more than the 8 s a model takes: 44.1 kHz needs 8.0109 s
MAX_CLIPS = 5
AS_MANY_AS_FIT = -1
TAILS = ("drop", "pad")
SHORTEST_TAIL_S = 1.0


@dataclass(frozen=True)
class Cutting:
    """How recordings are cut. As it stands, as the published system does.

    All seconds count as the decimal numbers they are written as: 8.1 is 81/10.
    """

    clip_length_s: float = CLIP_LENGTH_S
    max_clips: int = MAX_CLIPS  # per recording; -1: as many as fit
    overlap_s: float = 0.0  # what two clips that follow each other may share at most
    tail: str = "drop"  # what is left after the last whole clip: `drop` it, or `pad` it with silence to one more clip
    min_length_s: float | None = None  # of a recording, and of the new sound in a padded clip; None: the default below

    def shortest_s(self) -> float:
        """Seconds that a recording, and the new sound in a padded clip, must last."""
        default_s = SHORTEST_TAIL_S if self.tail == "pad" else self.clip_length_s
        return default_s if self.min_length_s is None else self.min_length_s

    def check(self) -> None:
        """Raises: UserError with a sentence, by option, for each number out of range and each pair that contradicts itself."""
        length_s, shortest_s = self.clip_length_s, self.shortest_s()
        wrong = [
            (not 0 < length_s < inf, f"--clip_length is {length_s}; want seconds above 0"),
            (
                self.max_clips < 1 and self.max_clips != AS_MANY_AS_FIT,
                f"--max_clips is {self.max_clips}; want 1 or more, or -1 for all that fit",
            ),
            (not 0 <= self.overlap_s < inf, f"--overlap is {self.overlap_s}; want seconds from 0 on"),
            (self.tail not in TAILS, f"--tail is {self.tail!r}; want {' or '.join(TAILS)}{nearest(self.tail, TAILS)}"),
            (self.min_length_s is not None and not 0 < self.min_length_s < inf, f"--min_length is {shortest_s}; want seconds above 0"),
            (self.overlap_s >= length_s > 0, f"--overlap {self.overlap_s} has to be less than --clip_length {length_s}"),
        ]
        if self.tail == "drop":
            advice = "--tail drop makes no clip of less; add --tail pad, or leave --min_length out"
            wrong.append((0 < shortest_s < length_s, f"--min_length is {shortest_s}, below --clip_length {length_s}, but {advice}"))
        elif self.tail == "pad":
            advice = "--tail pad would never pad a clip; give a smaller --min_length, or leave --tail out"
            wrong.append((shortest_s >= length_s > 0, f"--min_length {shortest_s} is not below --clip_length {length_s}, so {advice}"))
        sentences = [sentence for is_wrong, sentence in wrong if is_wrong]
        if sentences:
            raise UserError(*sentences)


PUBLISHED = Cutting()


@dataclass(frozen=True, slots=True)
class ClipPlan:
    """Where one recording is cut, in samples at its own rate: clips of one length, a step apart, the first at 0."""

    num_clips: int
    step_samples: int
    clip_samples: int
    padded_samples: int = 0  # of the last clip: how many lie after the recording's end

    def spans(self) -> list[tuple[int, int, int]]:
        """(first sample, first one after it, how many of them lie after the recording's end) of each clip."""
        starts = [at * self.step_samples for at in range(self.num_clips)]
        return [(start, start + self.clip_samples, self.padded_samples * (start == starts[-1])) for start in starts]


@dataclass(frozen=True)
class _Lengths:
    """A cutting in samples at one rate."""

    clip: int
    hop: int  # from clip to clip if they share all they may
    shortest: int


@lru_cache(maxsize=256)
def _lengths(cutting: Cutting, rate_hz: int) -> _Lengths:
    def samples(seconds: float) -> Fraction:
        return Fraction(str(seconds)) * rate_hz

    clip, overlap = int(samples(cutting.clip_length_s)), int(samples(cutting.overlap_s))
    return _Lengths(clip, max(1, clip - overlap), ceil(samples(cutting.shortest_s())))


def plan_clips(num_samples: int, rate_hz: int, cutting: Cutting = PUBLISHED) -> ClipPlan:
    """Where to cut a recording. No clips where it is shorter than wanted, or a clip shorter than a sample.

    As many clips as fit, at most `max_clips`, spread over the recording: the first starts at 0, the last ends at most
    num_clips - 2 samples before the recording does. If a padded clip is added they share all they may instead, so that
    the padded one follows where no other whole one fits.

    Source: data.md section 2; overlap and padding are ours, and without them the numbers are the published ones.
    """
    lengths = _lengths(cutting, rate_hz)
    if num_samples < lengths.shortest or lengths.clip < 1:
        return ClipPlan(0, 0, lengths.clip)
    room = num_samples - lengths.clip
    num_whole = 1 + room // lengths.hop if room >= 0 else 0
    num_left = room % lengths.hop if room >= 0 else num_samples
    most = num_whole + 1 if cutting.max_clips == AS_MANY_AS_FIT else cutting.max_clips
    if cutting.tail == "pad" and num_left >= lengths.shortest and num_whole < most:
        return ClipPlan(num_whole + 1, lengths.hop, lengths.clip, num_whole * lengths.hop - room)
    num_clips = min(num_whole, most)
    return ClipPlan(num_clips, room // (num_clips - 1) if num_clips > 1 else 0, lengths.clip)
