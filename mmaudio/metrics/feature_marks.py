"""Which files of a folder of features this program made: its record, its cache files and the parts on their way carry a mark."""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from mmaudio.base.ownership import Mark, archive_mark, is_in_the_way, mark_of
from mmaudio.metrics.cache_files import CACHE_FILES, cache_path

RECORD_FILE = "cache.json"  # of a cache folder: what its features were made of
PARTS_FOLDER = ".parts"  # in a cache folder, with a folder for each judge
_KIND, _RECORD_KIND = "features", "record of features"


def _owner(folder: Path) -> str:
    """What features belong to: the folder they are in, by its own name, whichever link leads there."""
    return Path(os.path.realpath(folder)).name


def features_mark(path: Path) -> Mark:
    """The mark of a file of features that is to be at a place."""
    return mark_of(_KIND, _owner(path.parent), name=path.name)


def record_mark(folder: Path) -> Mark:
    """The mark of the record of a cache folder."""
    return mark_of(_RECORD_KIND, _owner(folder))


def is_foreign_record(folder: Path) -> bool:
    """Whether a cache folder has something else where its record belongs, or one that no mark proves to be ours."""
    return is_in_the_way(folder / RECORD_FILE, _RECORD_KIND, _owner(folder))


def is_foreign(path: Path) -> bool:
    """Whether something stands where a cache file or a part belongs that this program did not make."""
    return is_in_the_way(path, _KIND, _owner(path.parent), archive_mark)


def foreign_features(folder: Path, stems: Iterable[str]) -> list[Path]:
    """What in a cache folder may not be replaced by features of these kinds."""
    if not folder.is_dir():
        return [folder] if os.path.lexists(folder) else []
    record = [folder / RECORD_FILE] if is_foreign_record(folder) else []
    files = [*(cache_path(folder, stem) for stem in sorted(set(stems))), *sorted(folder.glob(f"{PARTS_FOLDER}/*/*.pth"))]
    return record + [path for path in files if is_foreign(path)]


def remove_features(folder: Path) -> None:
    """Remove what this program made in a cache folder, and what is empty then; all else stays."""
    if not folder.is_dir():
        return
    for path in [*(cache_path(folder, stem) for stem in CACHE_FILES), *folder.glob(f"{PARTS_FOLDER}/*/*.pth")]:
        if path.exists() and not is_foreign(path):
            path.unlink()
    if not is_foreign_record(folder):
        (folder / RECORD_FILE).unlink(missing_ok=True)
    for emptied in (*folder.glob(f"{PARTS_FOLDER}/*"), folder / PARTS_FOLDER, folder):
        with suppress(OSError):  # not empty, or a link to another place
            emptied.rmdir()
