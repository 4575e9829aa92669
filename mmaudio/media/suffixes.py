"""Which suffixes mean what, each list in the order in which a name is looked up, and the lookup itself, for which case does not matter."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from mmaudio.base.errors import UserError
from mmaudio.files.file_names import file_name, given_path

AUDIO_SUFFIXES = (".flac", ".wav")  # read sample by sample, as training takes them
MORE_AUDIO_SUFFIXES = (".mp3", ".ogg", ".m4a")  # sounds that can be heard and scored
VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".flv", ".wmv")
BROWSER_VIDEO_SUFFIXES = (".mp4", ".webm", ".m4v", ".mov")  # of these the ones a browser can show
HIDDEN_VIDEO_SUFFIXES = tuple(suffix for suffix in VIDEO_SUFFIXES if suffix not in BROWSER_VIDEO_SUFFIXES)
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
SOUND_SUFFIXES = AUDIO_SUFFIXES + VIDEO_SUFFIXES + MORE_AUDIO_SUFFIXES  # all that a sound can be read from


class FolderIndex:
    """The files of a folder by id: their name without its suffix. A folder is looked at once, however many ids are asked for.

    Nothing outside the folder is found, whatever an id is: its file has the name that `file_name` gives it, or is where its path leads
    below the folder. Raises: UserError for no such folder.
    """

    def __init__(self, folder: Path, suffixes: Sequence[str]) -> None:
        if not folder.is_dir():
            raise UserError(f"no folder at {folder}")
        self._folder, self._suffixes = folder, suffixes
        self._longest = max(suffixes, key=len, default="")
        self._known: dict[str, dict[str, dict[str, str]]] = {}  # folder within ours → stem → suffix in small letters → name

    def find(self, name_id: str) -> str | None:
        """The file of an id, as named within the folder, by the first suffix there is; an id may lead to a folder below ("a/b")."""
        name, given = file_name(name_id), given_path(name_id)
        if file_name(name_id, self._longest) == name + self._longest:
            found = self._first(name, self._suffixes)
        else:  # a name that is cut, more of it the longer the suffix
            named = ((file_name(name_id, suffix).removesuffix(suffix), suffix) for suffix in self._suffixes)
            found = next((file for stem, suffix in named if (file := self._first(stem, [suffix]))), None)
        return self._first(given, self._suffixes) if found is None and given not in (None, name) else found

    def _first(self, path: str, suffixes: Sequence[str]) -> str | None:
        below, stem = os.path.split(path)
        if below not in self._known:
            self._known[below] = _listed(self._folder / below)
        there = self._known[below].get(stem, {})
        found = next((there[suffix] for suffix in suffixes if suffix in there), None)
        return None if found is None else os.path.join(below, found)


def _listed(folder: Path) -> dict[str, dict[str, str]]:
    """Stem → suffix in small letters → name; of names that differ in the suffix's case alone, the one in small letters."""
    try:
        names = os.listdir(folder)
    except OSError:  # no folder
        return {}
    there: dict[str, dict[str, str]] = {}
    for name in sorted(names):  # capitals first, so that small letters replace them
        stem, suffix = split_suffix(name)
        there.setdefault(stem, {})[suffix] = name
    return there


def split_suffix(name: str) -> tuple[str, str]:
    """The stem of a file's name or path, which may be dots alone, and its suffix in small letters: `....FLAC` is `...` with `.flac`."""
    stem, dot, suffix = name.rpartition(".")
    return (stem, dot + suffix.lower()) if stem and "/" not in suffix and not stem.endswith("/") else (name, "")


def files_by_id(folder: Path, ids: Iterable[str], suffixes: Sequence[str]) -> dict[str, Path]:
    """Id → file of it in a folder, by the first suffix there is; ids without one are left out. Raises: UserError for no such folder."""
    index = FolderIndex(folder, suffixes)
    found = {name_id: index.find(name_id) for name_id in ids}
    return {name_id: folder / file for name_id, file in found.items() if file is not None}


def find_file(folder: Path, name_id: str, suffixes: Sequence[str]) -> Path | None:
    """The file of one id in a folder, as `files_by_id`, without looking at the others. Suffixes are in small letters."""
    for suffix in suffixes:
        given = given_path(name_id)
        for name in (file_name(name_id, suffix), *([] if given is None else [given + suffix])):
            if os.path.isfile(folder / name):
                return folder / name
    return None


def list_below(folder: Path, suffixes: Sequence[str]) -> list[str]:
    """The files of these suffixes in a folder and in those below it that are not hidden, by their paths from there, sorted."""
    found = []
    for above, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = os.path.relpath(above, folder)
        some = [name for name in names if split_suffix(name)[1] in suffixes and os.path.isfile(os.path.join(above, name))]
        found += [name if below == "." else f"{below}/{name}" for name in some]
    return sorted(found)
