"""Recordings cut into clips: where, and for a folder of them."""

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache, partial
from itertools import chain
from math import ceil, inf
from pathlib import Path

from mmaudio.base.errors import UserError, nearest
from mmaudio.base.logs import progress
from mmaudio.base.machine import num_cores
from mmaudio.clips.clip_tables import AudioClip, Reject
from mmaudio.media.audio import MediaError, audio_header
from mmaudio.media.prefetch import prefetch_files
from mmaudio.media.suffixes import AUDIO_SUFFIXES

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


# ---- The recordings of a folder; only their headers are read, in threads: the time goes into waiting for storage

MOST_WORKERS = 16
_FILES_AT_ONCE = 64  # that a thread is handed, so that handing over costs little
_STAGE = "partition"


@dataclass(frozen=True, slots=True)
class CutFile:
    """A recording, named without its extension, and where it is cut."""

    name: str
    plan: ClipPlan

    def clips(self) -> Iterator[AudioClip]:
        for at, (start, end, padded) in enumerate(self.plan.spans()):
            yield AudioClip(f"{self.name}_{at}", self.name, start, end, padded)


class CutClips(Collection[AudioClip]):
    """The clips of many recordings, `<name>_<i>`, each made when it is asked for: only the plans are held."""

    def __init__(self, files: list[CutFile]) -> None:
        self.files = files

    def __len__(self) -> int:
        return sum(file.plan.num_clips for file in self.files)

    def __iter__(self) -> Iterator[AudioClip]:
        return chain.from_iterable(file.clips() for file in self.files)

    def __contains__(self, clip: object) -> bool:
        return any(clip == other for other in self)


@dataclass(frozen=True)
class Partition:
    """Clips of a folder of audio files in file order, what was rejected, and how many files were looked at."""

    clips: CutClips
    rejects: list[Reject]
    num_files: int


def default_workers() -> int:
    """Threads that look at files, on this machine: they mostly wait."""
    return min(MOST_WORKERS, 4 * num_cores())


def check_slice(start: int, end: int) -> None:
    """Raises: UserError, by option, for a slice of a listing that is none."""
    wrong = [f"--start is {start}; want 0 or more"] if start < 0 else []
    if end < -1:
        wrong.append(f"--end is {end}; want a number of files, or -1 for all")
    elif 0 <= end <= max(start, 0):
        wrong.append(f"--end is {end} and --start {start}; want an end after the start, or -1 for all")
    if wrong:
        raise UserError(*wrong)


def partition_folder(
    folder: Path, *, start: int = 0, end: int = -1, cutting: Cutting = PUBLISHED, num_workers: int | None = None
) -> Partition:
    """Plan the clips of every file of a folder.

    Args:
        folder: holds .flac and .wav files; hidden files are no inputs, everything else is used or rejected.
        start, end: slice of the sorted listing; an end of -1 means all.
        num_workers: threads that look at files; what comes out does not depend on it.
    Returns: clips `<file name without extension>_<i>`. A file that is foreign, unreadable, too short, or hidden behind
        another of the same name becomes a reject.
    Raises: UserError where there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"no folder of audio files at {folder}")
    names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    listing = names[start : None if end == -1 else end]
    some = (listing[at : at + _FILES_AT_ONCE] for at in range(0, len(listing), _FILES_AT_ONCE))
    look = partial(_plan_files, folder, present=frozenset(names), cutting=cutting)
    planned = chain.from_iterable(_made(plans) for _, plans in prefetch_files(look, some, num_workers or default_workers()))
    files: list[CutFile] = []
    rejects: list[Reject] = []
    for found in progress(planned, len(listing), _STAGE):
        if isinstance(found, Reject):
            rejects.append(found)
        else:
            files.append(found)
    return Partition(CutClips(files), rejects, len(listing))


def _made(plans: list[CutFile | Reject] | MediaError) -> list[CutFile | Reject]:
    assert not isinstance(plans, MediaError)  # it has become a reject
    return plans


def _plan_files(folder: Path, names: list[str], *, present: frozenset[str], cutting: Cutting) -> list[CutFile | Reject]:
    planned = ((name, _plan_file(folder, name, present, cutting)) for name in names)
    return [Reject(*_printable(name), _STAGE, plan) if isinstance(plan, str) else plan for name, plan in planned]


def _printable(name: str) -> tuple[str, str]:
    """The stem and the name of a file, with bytes that are no text spelled out."""
    text = name.encode("utf-8", "backslashreplace").decode("utf-8")
    return os.path.splitext(text)[0], text


def _plan_file(folder: Path, name: str, present: frozenset[str], cutting: Cutting) -> CutFile | str:
    """Where one file is cut, or why it is not. `present` are the names in its folder."""
    stem, suffix = os.path.splitext(name)
    if _printable(name)[1] != name:
        return "its name is not UTF-8; rename it"
    if suffix not in AUDIO_SUFFIXES:
        if (folder / name).is_dir():
            return "a folder, not an audio file"
        return "not a .flac or .wav file (in small letters); convert it, rename it, or move it away"
    first = next(suffix for suffix in AUDIO_SUFFIXES if f"{stem}{suffix}" in present)
    if first != suffix:
        return f"{stem}{first} has the same name and comes first; rename one of them"
    try:
        num_samples, rate_hz = audio_header(folder / name)
    except (ValueError, OSError) as error:  # MediaError is a ValueError
        return "a folder, not an audio file" if (folder / name).is_dir() else f"cannot be read as audio: {error}"
    plan = plan_clips(num_samples, rate_hz, cutting)
    if not plan.clip_samples:
        return f"a clip of {cutting.clip_length_s} s has no sample at {rate_hz} Hz"
    if not plan.num_clips:
        return f"{num_samples} samples at {rate_hz} Hz, {num_samples / rate_hz:.4f} s; want at least {cutting.shortest_s()} s"
    return CutFile(stem, plan)
