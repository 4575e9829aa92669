"""Cuts the recordings of a folder into clips. Only their headers are read, in threads: the time goes into waiting for storage."""

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

from mmaudio.base.errors import UserError
from mmaudio.base.logs import progress
from mmaudio.base.ranks import num_cores
from mmaudio.clips.cutting import PUBLISHED, ClipPlan, Cutting, plan_clips
from mmaudio.clips.rejects import Reject
from mmaudio.clips.table import AudioClip
from mmaudio.media.ahead import read_ahead
from mmaudio.media.audio import MediaError, audio_header
from mmaudio.media.suffixes import AUDIO_SUFFIXES

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
    planned = chain.from_iterable(_made(plans) for _, plans in read_ahead(look, some, num_workers or default_workers()))
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
