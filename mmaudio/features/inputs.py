"""What there is to extract: the clips or videos of a table, each with its file, and those that have to be left out."""

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mmaudio.base.errors import UserError
from mmaudio.base.files import text_hash
from mmaudio.clips.rejects import Reject
from mmaudio.clips.table import read_captions, read_clips, read_videos
from mmaudio.media.audio import AUDIO_SUFFIXES

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")  # in the order in which an id is looked up
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
        return Inputs(self.kind, self.data_dir, items, [reject for reject in self.rejects if reject.id not in ids])

    def begun_with(self, ids: Collection[str]) -> "Inputs":
        """These inputs as they were when an extraction of the ones with these ids was begun; those that came since have to wait."""
        late = [Reject(item.id, item.file, _STAGE, CAME_LATER) for item in self.items if item.id not in ids]
        return Inputs(self.kind, self.data_dir, [item for item in self.items if item.id in ids], self.rejects + late)


class _Finder:
    """Sorts rows of a table into items and rejects; looks at the folder once, not once a row."""

    def __init__(self, data_dir: Path, suffixes: tuple[str, ...]) -> None:
        if not data_dir.is_dir():
            raise UserError(f"--data_dir is {data_dir}, which is not a folder")
        self.data_dir, self.suffixes = data_dir, suffixes
        self.present = frozenset(os.listdir(data_dir))
        self.seen: set[str] = set()
        self.rejects: list[Reject] = []

    def file_of(self, stem: str) -> str | None:
        names = (f"{stem}{suffix}" for suffix in self.suffixes)
        if "/" in stem:  # below the folder, where the listing does not reach
            return next((name for name in names if os.path.isfile(self.data_dir / name)), None)  # False also for a name that cannot be
        return next((name for name in names if name in self.present), None)

    def find(self, row_id: str, stem: str, problem: str | None) -> str | None:
        """The file of a row; None, with a reject, where `problem` says what is wrong with it or it has no file."""
        file = self.file_of(stem)
        if row_id in self.seen:
            problem = "this id is listed more than once; the first is kept"
        elif problem is None and file is None:
            problem = f"no such file in {self.data_dir} (looked for {stem!r} with {', '.join(self.suffixes)})"
        self.seen.add(row_id)
        if problem is not None:
            self.rejects.append(Reject(row_id, file or stem, _STAGE, problem))
            return None
        return file


def find_audio_clips(data_dir: Path, captions_tsv: Path, clips_tsv: Path) -> Inputs:
    """The clips of a clips table that have a caption and a file. Raises: UserError for missing folders, tables, columns."""
    finder = _Finder(data_dir, AUDIO_SUFFIXES)
    captions = read_captions(captions_tsv)

    def items() -> Iterator[Input]:
        for clip in read_clips(clips_tsv):
            caption = captions.get(clip.name)
            file = finder.find(clip.id, clip.name, f"no caption for {clip.name!r} in {captions_tsv.name}" if caption is None else None)
            if file is not None and caption is not None:
                yield Input(clip.id, caption, file, clip.start_sample, clip.end_sample, clip.padded_samples)

    return Inputs("audio", data_dir, list(items()), finder.rejects)


def find_videos(data_dir: Path, tsv: Path) -> Inputs:
    """The videos of a table (id, label) that have a file. Raises: UserError for missing folders, tables, columns."""
    finder = _Finder(data_dir, VIDEO_SUFFIXES)
    found = ((video, finder.find(video.id, video.id, None)) for video in read_videos(tsv))
    items = [Input(video.id, video.label, file) for video, file in found if file is not None]
    return Inputs("video", data_dir, items, finder.rejects)
