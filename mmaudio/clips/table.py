"""Tables of what to train on: clips of audio files, videos, and their captions. Ids and captions are text, always."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mmaudio.base.errors import Problems
from mmaudio.base.tables import read_table, write_table

_CLIP_COLUMNS = ("id", "name", "start_sample", "end_sample")


@dataclass(frozen=True)
class AudioClip:
    """A piece of an audio file, in samples at the file's own rate; `end_sample` is the first one after it."""

    id: str
    name: str  # of the file, without extension
    start_sample: int
    end_sample: int


@dataclass(frozen=True)
class VideoItem:
    """A video, named by its id, and what is seen or heard in it."""

    id: str
    label: str


def write_clips(path: Path, clips: Iterable[AudioClip]) -> None:
    """Write a clips table, atomically; its folder is made."""
    write_table(path, _CLIP_COLUMNS, ((clip.id, clip.name, str(clip.start_sample), str(clip.end_sample)) for clip in clips))


def read_clips(path: Path) -> list[AudioClip]:
    """Read a clips table, in file order.

    Raises: UserError for a missing table or column, or with a sentence for every row whose samples are not 0 ≤ start < end.
    """
    problems, clips = Problems(), []
    for number, record in enumerate(read_table(path, _CLIP_COLUMNS).records(), 1):
        start, end = record["start_sample"], record["end_sample"]
        if _is_count(start) and _is_count(end) and int(start) < int(end):
            clips.append(AudioClip(record["id"], record["name"], int(start), int(end)))
        else:
            problems.add(f"{path}, row {number} (id {record['id']!r}): samples {start!r} to {end!r}; want whole numbers, 0 <= start < end")
    problems.raise_any()
    return clips


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit()


def read_captions(path: Path) -> dict[str, str]:
    """Captions by id (the audio file's name without extension). Where an id is repeated, the last caption wins.

    Raises: UserError for a missing table or column.
    """
    table = read_table(path, ("id", "caption"))
    return dict(zip(table.column("id"), table.column("caption"), strict=True))


def read_videos(path: Path) -> list[VideoItem]:
    """Videos and labels, in file order, repeats included. Raises: UserError for a missing table or column."""
    table = read_table(path, ("id", "label"))
    return [VideoItem(row_id, label) for row_id, label in zip(table.column("id"), table.column("label"), strict=True)]
