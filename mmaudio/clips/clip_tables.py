"""Tables of clips, videos and captions, and of rejects."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

from mmaudio.base.errors import Problems, UserError
from mmaudio.files.file_names import check_ids
from mmaudio.files.owned_files import remove_recorded
from mmaudio.files.tables import read_columns, read_table, write_table

_COLUMNS = ("id", "file", "stage", "reason")


@dataclass(frozen=True, slots=True)
class Reject:
    """An input that failed."""

    id: str
    file: str
    stage: str  # of the pipeline: `partition`, `captions`, `read`, …
    reason: str  # one plain sentence or less


def rejects_path(output: Path) -> Path:
    """`<name>.failed.tsv` beside an output: the table `<name>.tsv`, or a store's folder `<name>` (dots are kept)."""
    name = output.name.removesuffix(".tsv")
    return output.with_name(f"{name}.failed.tsv")


def write_rejects(path: Path, rejects: Iterable[Reject]) -> None:
    """Write a table of rejects, atomically, with its record beside it. With none, one of an earlier run is removed: it could mislead.

    A table that this program did not write is moved aside in either case; `check_recorded` finds it before the work.
    """
    some = list(rejects)
    if some:
        write_table(path, _COLUMNS, map(attrgetter(*_COLUMNS), some), recorded=True)
    else:
        remove_recorded(path)


def read_rejects(path: Path) -> list[Reject]:
    """Read a table of rejects; no table means none. Raises: UserError for a table of another shape."""
    if not path.exists():
        return []
    return [Reject(*row) for row in read_columns(path, _COLUMNS)]


# ---- Clips of audio files, videos, and their captions; ids and captions are text, always

_CLIP_COLUMNS = ("id", "name", "start_sample", "end_sample")
_MOST_DIGITS = 18  # more samples than a file can count
NUM_TOLD = 20  # wrong rows that are told each
_PADDED = "padded_samples"  # a column only of tables in which a clip is padded


@dataclass(frozen=True, slots=True)
class AudioClip:
    """A piece of an audio file, in samples at the file's own rate; `end_sample` is the first one after it.

    The last `padded_samples` of them lie after the file's end: they are silence.
    """

    id: str
    name: str  # of the file, without extension
    start_sample: int
    end_sample: int
    padded_samples: int = 0


@dataclass(frozen=True, slots=True)
class VideoItem:
    """A video, named by its id, and what is seen or heard in it."""

    id: str
    label: str


def write_clips(path: Path, clips: Collection[AudioClip]) -> None:
    """Write a clips table, as `recorded_path` does; its folder is made. `clips` are gone through several times.

    Raises: UserError for ids that lead out of a folder.
    """
    check_ids((clip.id for clip in clips), f"the table for {path}")
    if any(clip.padded_samples for clip in clips):
        columns, fields = (*_CLIP_COLUMNS, _PADDED), (str(clip.padded_samples) for clip in clips)
        write_table(path, columns, ((*_fields(clip), padded) for clip, padded in zip(clips, fields, strict=True)), recorded=True)
    else:
        write_table(path, _CLIP_COLUMNS, map(_fields, clips), recorded=True)


def _fields(clip: AudioClip) -> tuple[str, str, str, str]:
    return clip.id, clip.name, str(clip.start_sample), str(clip.end_sample)


def read_clips(path: Path) -> list[AudioClip]:
    """Read a clips table, in file order.

    Raises: UserError for a missing table or column, or with a sentence for each of the first rows, and one for the rest,
        whose samples are not 0 ≤ start < end, or that are padded with as many samples as they have, or more; for ids and names
        that lead out of a folder.
    """
    wrong: list[str] = []
    num_wrong = 0
    clips: list[AudioClip] = []
    last_name = ""
    for number, (clip_id, name, start, end, padded) in enumerate(read_columns(path, _CLIP_COLUMNS, {_PADDED: "0"}), 1):
        if not (_is_count(start) and _is_count(end) and int(start) < int(end)):
            problem = f"samples {start!r} to {end!r}; want whole numbers, 0 <= start < end"
        elif not (_is_count(padded) and int(padded) < int(end) - int(start)):
            problem = f"{_PADDED} is {padded!r}; want a whole number less than the {int(end) - int(start)} samples of the clip"
        else:
            last_name = last_name if name == last_name else name  # one text for the clips of a file, which follow each other
            clips.append(AudioClip(clip_id, last_name, int(start), int(end), int(padded)))
            continue
        num_wrong += 1
        if num_wrong <= NUM_TOLD:
            wrong.append(f"{path}, row {number} (id {clip_id!r}): {problem}")
    if num_wrong > NUM_TOLD:
        wrong.append(f"{path}: {num_wrong - NUM_TOLD} more rows are wrong")
    problems = Problems()
    problems.check(lambda: check_ids(dict.fromkeys(name for clip in clips for name in (clip.id, clip.name)), str(path)))
    if wrong or problems.sentences:
        raise UserError(*wrong, *problems.sentences)
    return clips


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS


def read_audio_captions(path: Path) -> dict[str, str]:
    """Captions by id (the audio file's name without extension). Where an id is repeated, the last caption wins.

    Raises: UserError for a missing table or column, and for ids that lead out of a folder.
    """
    captions: dict[str, str] = {}
    for row_id, caption in read_columns(path, ("id", "caption")):
        captions[row_id] = caption
    check_ids(captions, str(path))
    return captions


def read_videos(path: Path, *, of_store: bool = False) -> list[VideoItem]:
    """Videos and labels, in file order, repeats included.

    Args:
        of_store: whether it is the table of a store that stands, whose ids are what they are.
    Raises: UserError for a missing table or column, and for ids that lead out of a folder.
    """
    videos = [VideoItem(row_id, label) for row_id, label in read_columns(path, ("id", "label"))]
    if not of_store:
        check_ids((video.id for video in videos), str(path))
    return videos


# ---- Captions that a user hands to a command

CAPTION_COLUMNS = ("label", "caption")


def read_captions(path: Path) -> dict[str, str]:
    """Id → caption of a table with a column `label` or `caption`.

    Raises: UserError if it has neither, or for ids that are paths out of a folder.
    """
    table = read_table(path, ["id"])
    column = next((name for name in CAPTION_COLUMNS if name in table.columns), None)
    if column is None:
        raise UserError(f"{path} has neither a column 'label' nor 'caption'; its columns are {', '.join(table.columns)}")
    ids = table.column("id")
    check_ids(ids, str(path))
    return dict(zip(ids, table.column(column), strict=True))
