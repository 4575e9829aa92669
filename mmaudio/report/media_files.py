"""Where the sounds and the pictures of scored clips lie: as their scores say, or in folders a user names."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmaudio.base.file_names import file_name
from mmaudio.media.suffixes import AUDIO_SUFFIXES, BROWSER_VIDEO_SUFFIXES, HIDDEN_VIDEO_SUFFIXES, MORE_AUDIO_SUFFIXES, find_file
from mmaudio.report.content import Sample, Sound
from mmaudio.report.scores import Scores, clip_numbers, number_of

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


def _real_sound(rows: Sequence[tuple[Scores, Mapping[str, Any]]], folders: Folders) -> Sound | None:
    """The real sound of a clip by the first file of scores that leads to one; None if none of them speaks of one."""
    found = [_found(row, "reference_file", scores.path, folders.reference) for scores, row in rows]
    best = next((one for one in found if one.file), next((one for one in found if one.sought), None))
    if best is None:
        return None
    onsets = next((times for _, row in rows if (times := _times(row, "real_onsets_s"))), [])
    return Sound(REAL, best.file, onsets, lack=_gone(best, "the real sound"))


def sample_of(rows: Sequence[tuple[Scores, Mapping[str, Any]]], labels: Sequence[str], folders: Folders) -> Sample:
    """One clip, by its row in each file of scores that has it; `labels` are what those files' sounds are called."""
    generated = [_found(row, "generated_file", scores.path, folders.generated) for scores, row in rows]
    sounds = [
        Sound(
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
    return Sample(
        id=rows[0][1]["id"],
        sounds=[*([real] if real else []), *sounds],
        picture=picture.file,
        duration_s=max((duration for duration in durations if duration), default=None),
        lack=_gone(picture, "the picture") if picture.sought else "",
    )
