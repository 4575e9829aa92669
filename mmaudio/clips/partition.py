"""Cuts long audio files into at most a few clips each, spread over the file (data.md section 2). Only headers are read."""

import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from mmaudio.base.errors import UserError
from mmaudio.clips.rejects import Reject
from mmaudio.clips.table import AudioClip
from mmaudio.media.audio import AUDIO_SUFFIXES, audio_header

CLIP_LENGTH_S = 8.1  # a little more than the 8 s a model takes: 44.1 kHz needs 8.0109 s
MAX_CLIPS = 5
_STAGE = "partition"


@dataclass(frozen=True)
class Partition:
    """Clips of a folder of audio files in file order, what was rejected, and how many files were looked at."""

    rows: list[AudioClip]
    rejects: list[Reject]
    num_files: int


def plan_clips(
    num_samples: int, rate_hz: int, *, clip_length_s: float = CLIP_LENGTH_S, max_clips: int = MAX_CLIPS
) -> list[tuple[int, int]]:
    """Where to cut a file: (first sample, first sample after it) of each clip, at the file's own rate.

    As many clips as fit without overlap, at most `max_clips`; the first starts at 0, the last ends at most
    max_clips - 2 samples before the file does. None where the file is shorter than one clip.

    Source: data.md section 2; `clip_length_s` counts as the decimal number it is written as, so 8.1 is 81/10.
    """
    length = Fraction(str(clip_length_s)) * rate_hz
    segment = int(length)
    if num_samples < length or segment < 1:
        return []
    num_clips = min(max_clips, num_samples // segment)
    step = (num_samples - segment) // (num_clips - 1) if num_clips > 1 else 0
    return [(clip * step, clip * step + segment) for clip in range(num_clips)]


def partition_folder(
    folder: Path, *, start: int = 0, end: int = -1, clip_length_s: float = CLIP_LENGTH_S, max_clips: int = MAX_CLIPS
) -> Partition:
    """Plan the clips of every file of a folder.

    Args:
        folder: holds .flac and .wav files; hidden files are no inputs, everything else is used or rejected.
        start, end: slice of the sorted listing; an end of -1 means all.
    Returns: clips `<file name without extension>_<i>`. A file that is foreign, unreadable, too short, or hidden behind
        another of the same name becomes a reject.
    Raises: UserError where there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"no folder of audio files at {folder}")
    names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    listing = names[start : None if end == -1 else end]
    present = frozenset(names)
    rows: list[AudioClip] = []
    rejects: list[Reject] = []
    for name in listing:
        planned = _plan_file(folder / name, present, clip_length_s, max_clips)
        if isinstance(planned, Reject):
            rejects.append(planned)
        else:
            rows.extend(planned)
    return Partition(rows, rejects, len(listing))


def _plan_file(path: Path, present: frozenset[str], clip_length_s: float, max_clips: int) -> list[AudioClip] | Reject:
    """The clips of one file, or why there are none. `present` are the names in its folder."""
    printable = path.name.encode("utf-8", "backslashreplace").decode("utf-8")
    stem = Path(printable).stem

    def reject(reason: str) -> Reject:
        return Reject(stem, printable, _STAGE, reason)

    if printable != path.name:
        return reject("its name is not UTF-8; rename it")
    if path.is_dir():
        return reject("a folder, not an audio file")
    if path.suffix not in AUDIO_SUFFIXES:
        return reject("not a .flac or .wav file (in small letters); convert it, rename it, or move it away")
    first = next(suffix for suffix in AUDIO_SUFFIXES if f"{path.stem}{suffix}" in present)
    if first != path.suffix:
        return reject(f"{path.stem}{first} has the same name and is used instead")
    try:
        num_samples, rate_hz = audio_header(path)
    except (ValueError, OSError) as error:  # MediaError is a ValueError
        return reject(f"cannot be read as audio: {error}")
    planned = plan_clips(num_samples, rate_hz, clip_length_s=clip_length_s, max_clips=max_clips)
    if not planned:
        return reject(f"{num_samples} samples at {rate_hz} Hz, {num_samples / rate_hz:.4f} s; want at least {clip_length_s} s")
    return [AudioClip(f"{path.stem}_{at}", path.stem, start, stop) for at, (start, stop) in enumerate(planned)]
