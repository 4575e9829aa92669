"""What there is to extract: the clips or videos of a table, each with its file, and those that have to be left out."""

from dataclasses import dataclass
from pathlib import Path

from mmaudio.base.errors import UserError
from mmaudio.base.files import text_hash
from mmaudio.clips.rejects import Reject
from mmaudio.clips.table import read_captions, read_clips, read_videos
from mmaudio.media.audio import AUDIO_SUFFIXES

VIDEO_SUFFIX = ".mp4"


@dataclass(frozen=True)
class Input:
    """One future row: its id and caption, its file, and for audio the samples of the file (native rate, end exclusive)."""

    id: str
    caption: str
    path: Path
    start_sample: int = 0
    end_sample: int | None = None

    @property
    def identity(self) -> str:
        return "\t".join((self.id, self.caption, str(self.path.resolve()), str(self.start_sample), str(self.end_sample)))


@dataclass(frozen=True)
class Inputs:
    """Inputs in table order, and what the tables name but cannot be used."""

    kind: str
    items: list[Input]
    rejects: list[Reject]

    @property
    def num_seen(self) -> int:
        return len(self.items) + len(self.rejects)

    @property
    def hash(self) -> str:
        return text_hash([item.identity for item in self.items])


def _existing_folder(folder: Path, option: str) -> Path:
    if not folder.is_dir():
        raise UserError(f"{option} is {folder}, which is not a folder")
    return folder


def find_audio_clips(data_dir: Path, captions_tsv: Path, clips_tsv: Path) -> Inputs:
    """The clips of a clips table that have a caption and a file. Raises: UserError for missing folders, tables, columns."""
    _existing_folder(data_dir, "--data_dir")
    captions, clips = read_captions(captions_tsv), read_clips(clips_tsv)
    items: list[Input] = []
    rejects: list[Reject] = []
    seen: set[str] = set()
    for clip in clips:
        path = next((p for p in (data_dir / f"{clip.name}{suffix}" for suffix in AUDIO_SUFFIXES) if p.is_file()), None)
        if clip.id in seen:
            rejects.append(Reject(clip.id, clip.name, "find", "this id is listed more than once; the first is kept"))
        elif clip.name not in captions:
            rejects.append(Reject(clip.id, clip.name, "find", f"no caption for {clip.name!r} in {captions_tsv.name}"))
        elif path is None:
            rejects.append(Reject(clip.id, clip.name, "find", f"no {' or '.join(AUDIO_SUFFIXES)} file of this name in {data_dir}"))
        else:
            items.append(Input(clip.id, captions[clip.name], path, clip.start_sample, clip.end_sample))
        seen.add(clip.id)
    return Inputs("audio", items, rejects)


def find_videos(data_dir: Path, tsv: Path) -> Inputs:
    """The videos of a table (id, label) that have a file. Raises: UserError for missing folders, tables, columns."""
    _existing_folder(data_dir, "--data_dir")
    items: list[Input] = []
    rejects: list[Reject] = []
    seen: set[str] = set()
    for video in read_videos(tsv):
        path = data_dir / f"{video.id}{VIDEO_SUFFIX}"
        if video.id in seen:
            rejects.append(Reject(video.id, path.name, "find", "this id is listed more than once; the first is kept"))
        elif not path.is_file():
            rejects.append(Reject(video.id, path.name, "find", f"no such file in {data_dir}"))
        else:
            items.append(Input(video.id, video.label, path))
        seen.add(video.id)
    return Inputs("video", items, rejects)
