"""Which clips are shown, and where their media lie."""

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmaudio.files.file_names import file_name
from mmaudio.media.suffixes import AUDIO_SUFFIXES, BROWSER_VIDEO_SUFFIXES, HIDDEN_VIDEO_SUFFIXES, MORE_AUDIO_SUFFIXES, find_file
from mmaudio.metrics.results import number_of
from mmaudio.report.content import PageClip, PageSound
from mmaudio.report.metric_table import in_order
from mmaudio.report.run_results import Scores, clip_numbers

# ---- Where the sounds and the pictures of scored clips lie: as their scores say, or in folders a user names

SOUND_SUFFIXES = AUDIO_SUFFIXES + MORE_AUDIO_SUFFIXES  # in the order in which a name is looked up
PICTURE_SUFFIXES = BROWSER_VIDEO_SUFFIXES + HIDDEN_VIDEO_SUFFIXES  # those first that a browser shows
REAL = "real"
GENERATED = "generated"


@dataclass(frozen=True)
class Folders:
    """Folders to look in for what the scores do not say, or where what they say is gone."""

    generated: Path | None = None
    reference: Path | None = None


@dataclass(frozen=True)
class _Found:
    """A file, or where it was looked for in vain: what the scores call it, or the name of the clip."""

    file: Path | None
    sought: str = ""


def _is_media(path: Path) -> bool:
    """Whether a file is media by its name. Scores may be somebody else's, and what they name goes into a page."""
    return path.suffix.lower() in SOUND_SUFFIXES + PICTURE_SUFFIXES


def _told_file(told: Any, scores: Path) -> Path | None:
    """A file that a row names: as it stands, or seen from where the scores lie, also where both were moved with their folder."""
    if not isinstance(told, str) or "\0" in told or not _is_media(path := Path(told)):
        return None
    places = (path, scores.parent / path, *(scores.parent / Path(*path.parts[-depth:]) for depth in (1, 2, 3)))
    return next((place for place in places if os.path.isfile(place)), None)


def _in_folder(folder: Path | None, clip_id: str, suffixes: Sequence[str]) -> Path | None:
    return None if folder is None else find_file(folder, clip_id, suffixes)


def _picture_beside(sound: Path | None, clip_id: str) -> Path | None:
    """The picture of an id in the very folder of a sound of it."""
    names = (file_name(clip_id, suffix).rpartition("/")[2] for suffix in PICTURE_SUFFIXES)
    return None if sound is None else next((path for name in names if os.path.isfile(path := sound.parent / name)), None)


def _found(row: Mapping[str, Any], key: str, scores: Path, folder: Path | None) -> _Found:
    """The file that a row names under a key, or the one of its id in a folder."""
    file = _told_file(row.get(key), scores) or _in_folder(folder, row["id"], SOUND_SUFFIXES + PICTURE_SUFFIXES)
    sought = row.get(key) or (f"{folder}/{row['id']}.*" if folder else "")
    return _Found(file, "" if file else str(sought))


def _picture(row: Mapping[str, Any], scores: Path, folders: Folders, sounds: Sequence[Path | None]) -> _Found:
    """The video of a clip: the one named, that in the folder of real ones, or one that a sound is of or lies beside."""
    named = row.get("video_file")
    if file := _told_file(named, scores) or _in_folder(folders.reference, row["id"], PICTURE_SUFFIXES):
        return _Found(file)
    for sound in sounds:
        if sound and sound.suffix.lower() in PICTURE_SUFFIXES:
            return _Found(sound)
    for sound in sounds:
        if beside := _picture_beside(sound, row["id"]):
            return _Found(beside)
    return _Found(None, str(named or ""))


def _gone(found: _Found, what: str) -> str:
    if found.file:
        return ""
    if found.sought and not found.sought.endswith(".*") and not _is_media(Path(found.sought)):
        return f"{what} is not shown: its scores name {found.sought[:80]}, which is no sound or video by its name"
    return f"{what} is gone: there is no file {found.sought}" if found.sought else f"its scores do not say where {what} is"


def _times(row: Mapping[str, Any], key: str) -> list[float]:
    told = row.get(key)
    return [time for item in told if (time := number_of(item)) is not None] if isinstance(told, list) else []


def _real_sound(rows: Sequence[tuple[Scores, Mapping[str, Any]]], folders: Folders) -> PageSound | None:
    """The real sound of a clip by the first file of scores that leads to one; None if none of them speaks of one."""
    found = [_found(row, "reference_file", scores.path, folders.reference) for scores, row in rows]
    best = next((one for one in found if one.file), next((one for one in found if one.sought), None))
    if best is None:
        return None
    onsets = next((times for _, row in rows if (times := _times(row, "real_onsets_s"))), [])
    return PageSound(REAL, best.file, onsets, lack=_gone(best, "the real sound"))


def sample_of(rows: Sequence[tuple[Scores, Mapping[str, Any]]], labels: Sequence[str], folders: Folders) -> PageClip:
    """One clip, by its row in each file of scores that has it; `labels` are what those files' sounds are called."""
    generated = [_found(row, "generated_file", scores.path, folders.generated) for scores, row in rows]
    sounds = [
        PageSound(
            label=label,
            file=found.file,
            onsets_s=_times(row, "generated_onsets_s"),
            numbers=clip_numbers(row),
            caption=str(row.get("caption") or ""),
            lack=_gone(found, f"the sound {label!r}"),
        )
        for label, found, (_, row) in zip(labels, generated, rows, strict=True)
    ]
    real = _real_sound(rows, folders)
    files = [real.file if real else None, *(found.file for found in generated)]
    pictures = [_picture(row, scores.path, folders, files) for scores, row in rows]
    picture = next((one for one in pictures if one.file), next((one for one in pictures if one.sought), _Found(None)))
    durations = [number_of(scores.column.protocol.get("duration_s")) for scores, _ in rows]
    return PageClip(
        id=rows[0][1]["id"],
        sounds=[*([real] if real else []), *sounds],
        picture=picture.file,
        duration_s=max((duration for duration in durations if duration is not None and duration > 0), default=None),
        lack=_gone(picture, "the picture") if picture.sought else "",
    )


Rows = dict[str, list[tuple[int, Mapping[str, Any]]]]  # id → (place of the file of scores, row)


def sound_labels(files: Sequence[Scores]) -> list[str]:
    """What the generated sounds of each file of scores are called on the page."""
    if len(files) == 1:
        return [GENERATED]
    return [f"{scores.column.label} ({GENERATED})" if scores.column.label == REAL else scores.column.label for scores in files]


def all_labels(files: Sequence[Scores]) -> list[str]:
    """Labels of all sounds, in the order of the keys that switch to them."""
    return [REAL, *sound_labels(files)]


# ---- Which clips are shown


def _rows(files: Sequence[Scores]) -> Rows:
    """Rows by id: of the ids that every file of scores has, where there are such; otherwise of all."""
    rows: Rows = {}
    for place, scores in enumerate(files):
        for row in {row["id"]: row for row in scores.clips}.values():
            rows.setdefault(row["id"], []).append((place, row))
    everywhere = {clip_id: found for clip_id, found in rows.items() if len(found) == len(files)}
    return everywhere or rows


def _ranked_by(files: Sequence[Scores], rows: Rows) -> tuple[str, bool]:
    """The metric that clips are ranked by, the first that they have and of which one way is better, and whether that is up; or ""."""
    told = {name for found in rows.values() for name, value in clip_numbers(found[0][1]).items() if value is not None}
    better = {name: value.better for file in reversed(files) for name, value in file.column.values.items() if value.better}
    name = next((name for name in in_order(told) if name in better), "")
    return name, better.get(name) == "higher"


def chosen_ids(files: Sequence[Scores], most: int) -> list[str]:
    """At most `most` ids, spread evenly from the best to the worst by what the first file of scores says of each clip."""
    rows = _rows(files)
    name, is_up = _ranked_by(files, rows)

    def cost(clip_id: str) -> float:
        value = clip_numbers(rows[clip_id][0][1]).get(name)
        return math.inf if value is None else -value if is_up else value  # one without the number comes last

    ranked = sorted(rows, key=cost)
    keep = min(most, len(ranked))
    return [ranked[index * (len(ranked) - 1) // max(1, keep - 1)] for index in range(keep)]


def find_media(files: Sequence[Scores], folders: Folders) -> bool:
    """Whether anything says where generated sounds lie: the scores of a clip, or a folder a user named."""
    return folders.generated is not None or any(row.get("generated_file") for scores in files for row in scores.clips)


def samples_of(files: Sequence[Scores], folders: Folders, most: int) -> Iterator[PageClip]:
    """The chosen clips, one by one. Of clips that were scored in several files, each file gives a sound."""
    rows, labels = _rows(files), sound_labels(files)
    for clip_id in chosen_ids(files, most):
        found = rows[clip_id]
        yield sample_of([(files[place], row) for place, row in found], [labels[place] for place, _ in found], folders)
