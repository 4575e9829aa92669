"""Which suffixes mean what, each list in the order in which a name is looked up, and the lookup itself, for which case does not matter."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from mmaudio.base.errors import UserError

AUDIO_SUFFIXES = (".flac", ".wav")  # read sample by sample, as training takes them
MORE_AUDIO_SUFFIXES = (".mp3", ".ogg", ".m4a")  # sounds that can be heard and scored
VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".flv", ".wmv")
BROWSER_VIDEO_SUFFIXES = (".mp4", ".webm", ".m4v", ".mov")  # of these the ones a browser can show
HIDDEN_VIDEO_SUFFIXES = tuple(suffix for suffix in VIDEO_SUFFIXES if suffix not in BROWSER_VIDEO_SUFFIXES)
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
SOUND_SUFFIXES = AUDIO_SUFFIXES + VIDEO_SUFFIXES + MORE_AUDIO_SUFFIXES  # all that a sound can be read from


class FolderIndex:
    """The files of a folder by id: their name without its suffix. A folder is looked at once, however many ids are asked for.

    Raises: UserError for no such folder.
    """

    def __init__(self, folder: Path, suffixes: Sequence[str]) -> None:
        if not folder.is_dir():
            raise UserError(f"no folder at {folder}")
        self._folder, self._suffixes = folder, suffixes
        self._known: dict[str, dict[str, dict[str, str]]] = {}  # folder within ours → id → suffix in small letters → name

    def find(self, name: str) -> str | None:
        """The file of an id, as named within the folder, by the first suffix there is; an id may lead to a folder below ("a/b")."""
        below, stem = os.path.split(name)
        if below not in self._known:
            self._known[below] = _listed(self._folder / below)
        there = self._known[below].get(stem, {})
        found = next((there[suffix] for suffix in self._suffixes if suffix in there), None)
        return None if found is None else os.path.join(below, found)


def _listed(folder: Path) -> dict[str, dict[str, str]]:
    """Id → suffix in small letters → name; of names that differ in the suffix's case alone, the one in small letters."""
    try:
        names = os.listdir(folder)
    except (OSError, ValueError):  # no folder, or a name that none can have
        return {}
    there: dict[str, dict[str, str]] = {}
    for name in sorted(names):  # capitals first, so that small letters replace them
        stem, suffix = os.path.splitext(name)
        there.setdefault(stem, {})[suffix.lower()] = name
    return there


def files_by_id(folder: Path, ids: Iterable[str], suffixes: Sequence[str]) -> dict[str, Path]:
    """Id → file of it in a folder, by the first suffix there is; ids without one are left out. Raises: UserError for no such folder."""
    index = FolderIndex(folder, suffixes)
    found = {name: index.find(name) for name in ids}
    return {name: folder / file for name, file in found.items() if file is not None}
