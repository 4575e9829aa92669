"""What there is to extract, each file with its stamp."""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

from mmaudio.base.errors import Problems, UserError
from mmaudio.clips.clip_tables import Reject, read_audio_captions, read_clips, read_videos
from mmaudio.files.atomic import text_hash
from mmaudio.files.file_names import is_escaping
from mmaudio.media.suffixes import AUDIO_SUFFIXES, VIDEO_SUFFIXES, FolderIndex

CAME_LATER = "it came after this extraction was begun; run it with --append once the store stands"
_STAGE = "find"


@dataclass(frozen=True, slots=True)
class Input:
    """One future row: its id and caption, its file, and for audio the samples of the file (native rate, end exclusive).

    `padded_samples` of them lie after the file's end and are silent.
    """

    id: str
    caption: str
    file: str  # inside the folder of the inputs
    start_sample: int = 0
    end_sample: int | None = None
    padded_samples: int = 0

    @property
    def identity(self) -> tuple[str, ...]:
        return self.id, self.caption, self.file, str(self.start_sample), str(self.end_sample), str(self.padded_samples)


@dataclass(frozen=True)
class Inputs:
    """Inputs in table order, and what the tables name but cannot be used."""

    kind: str
    data_dir: Path
    items: list[Input]
    rejects: list[Reject]
    absent: Sequence[tuple[Input, Reject]] = ()  # of the rejects those that only lack a file, and what they would be with one

    @property
    def num_seen(self) -> int:
        return len(self.items) + len(self.rejects)

    @cached_property
    def hash(self) -> str:
        return text_hash(field for item in self.items for field in item.identity)

    def path(self, item: Input) -> Path:
        return self.data_dir / item.file

    def files(self) -> list[list[int]]:
        """Numbers of the items of each file, files in the order in which they first come: one reading serves all of them."""
        items_of: dict[str, list[int]] = {}
        for number, item in enumerate(self.items):
            items_of.setdefault(item.file, []).append(number)
        return list(items_of.values())

    def without(self, ids: Collection[str]) -> "Inputs":
        """These inputs but those that have one of these ids."""
        items = [item for item in self.items if item.id not in ids]
        absent = [(item, reject) for item, reject in self.absent if item.id not in ids]
        return Inputs(self.kind, self.data_dir, items, [reject for reject in self.rejects if reject.id not in ids], absent)

    def begun_with(self, begun: Mapping[str, str]) -> "Inputs":
        """These inputs as they were when an extraction was begun: those that came since have to wait, and none is left out
        because its file is gone; a row of it may be done, and if not, reading it tells.

        Args:
            begun: id → file of what the extraction was begun with, in order; the file "" where it is not known.
        """
        back = [(item, reject) for item, reject in self.absent if begun.get(item.id)]
        here = {item.id: item for item in (*self.items, *(item for item, _ in back))}
        found = ((here[row_id], file) for row_id, file in begun.items() if row_id in here)
        items = [item if file in ("", item.file) or is_escaping(file) else replace(item, file=file) for item, file in found]
        late = [Reject(item.id, item.file, _STAGE, CAME_LATER) for item in self.items if item.id not in begun]
        explained = {reject for _, reject in back}
        return Inputs(self.kind, self.data_dir, items, [reject for reject in self.rejects if reject not in explained] + late)


class _Finder:
    """Sorts rows of a table into items and rejects."""

    def __init__(self, data_dir: Path, suffixes: tuple[str, ...]) -> None:
        if not data_dir.is_dir():
            raise UserError(f"--data_dir is {data_dir}, which is not a folder")
        self.data_dir, self.suffixes = data_dir, suffixes
        self.index = FolderIndex(data_dir, suffixes)
        self.seen: set[str] = set()
        self.items: list[Input] = []
        self.rejects: list[Reject] = []
        self.absent: list[tuple[Input, Reject]] = []

    def take(self, row_id: str, stem: str, make: Callable[[str], Input], problem: str | None = None) -> None:
        """Sort a row in: `make` makes its input, of its file; with a reject instead where it has none, or `problem` says what is wrong."""
        file, is_absent = self.index.find(stem), False
        if row_id in self.seen:
            problem = "this id is listed more than once; the first is kept"
        elif problem is None and file is None:
            problem, is_absent = f"no such file in {self.data_dir} (looked for {stem!r} with {', '.join(self.suffixes)})", True
        self.seen.add(row_id)
        if problem is None:
            assert file is not None
            self.items.append(make(file))
            return
        self.rejects.append(Reject(row_id, file or stem, _STAGE, problem))
        if is_absent:
            self.absent.append((make(""), self.rejects[-1]))

    def found(self, kind: str) -> Inputs:
        """All that was sorted in."""
        return Inputs(kind, self.data_dir, self.items, self.rejects, self.absent)


def find_audio_clips(data_dir: Path, captions_tsv: Path, clips_tsv: Path) -> Inputs:
    """The clips of a clips table that have a caption and a file.

    Raises: UserError for folders, tables and columns that are missing, all of them, and for ids that lead out of `data_dir`.
    """
    problems = Problems()
    finder = problems.check(lambda: _Finder(data_dir, AUDIO_SUFFIXES))
    captions, clips = problems.check(lambda: read_audio_captions(captions_tsv)), problems.check(lambda: read_clips(clips_tsv))
    problems.raise_any()
    assert finder is not None and captions is not None and clips is not None
    for clip in clips:
        span = (clip.start_sample, clip.end_sample, clip.padded_samples)
        caption = captions.get(clip.name)
        problem = f"no caption for {clip.name!r} in {captions_tsv.name}" if caption is None else None
        finder.take(clip.id, clip.name, partial(_clip_of, clip.id, caption or "", span), problem)
    return finder.found("audio")


def _clip_of(row_id: str, caption: str, span: tuple[int, int, int], file: str) -> Input:
    return Input(row_id, caption, file, *span)


def find_videos(data_dir: Path, tsv: Path, *, of_store: bool = False) -> Inputs:
    """The videos of a table (id, label) that have a file; `of_store`: it is the table of a store that stands.

    Raises: UserError for folders, tables and columns that are missing, and for ids of a given table that lead out of `data_dir`.
    """
    problems = Problems()
    finder, videos = problems.check(lambda: _Finder(data_dir, VIDEO_SUFFIXES)), problems.check(lambda: read_videos(tsv, of_store=of_store))
    problems.raise_any()
    assert finder is not None and videos is not None
    for video in videos:
        finder.take(video.id, video.id, partial(Input, video.id, video.label))
    return finder.found("video")


# ---- Whether a file is still the one that was read: its length and the time of its last change

Stamp = tuple[int, int]  # bytes, and the time of the last change in nanoseconds
GONE: Stamp = (-1, 0)  # there was no file to look at
UNKNOWN: Stamp = (-2, 0)  # nobody looked


def file_stamp(path: Path) -> Stamp:
    """The stamp of what a path leads to; GONE where nothing can be looked at. A file of the same length and time passes for the same."""
    try:
        status = os.stat(path)
    except OSError:
        return GONE
    return status.st_size, status.st_mtime_ns
