"""`samples.json` in a folder of samples: what made them, and the way back from the name of each file to its id."""

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from mmaudio.base.file_names import file_name
from mmaudio.base.files import write_json
from mmaudio.base.ownership import MARK_KEY, fits, foreign, mark_of

SAMPLES_FILE = "samples.json"
_KIND = "names of samples"  # of the mark of a file that says no more than the ids
FILES_KEY = "files"  # name of a file, relative to the folder → id; beside it stands what made the samples, where that is kept


def read_ids(folder: Path) -> dict[str, str]:
    """The name of a file → its id, as `samples.json` in a folder says, where the name is the one that the id has. Others are left out."""
    found = _read_samples_file(folder)
    files = found.get(FILES_KEY) if isinstance(found, dict) else None
    some = {name: name_id for name, name_id in files.items() if isinstance(name_id, str)} if isinstance(files, dict) else {}
    return {name: name_id for name, name_id in some.items() if file_name(name_id, PurePosixPath(name).suffix) == name}


def add_ids(folder: Path, files: Mapping[str, str]) -> None:
    """Add ids by the names of their files to `samples.json` in a folder, atomically. Where all names are their ids, none is begun.

    Raises: UserError as `check_can_add_ids`.
    """
    check_can_add_ids(folder, files)
    found = _read_samples_file(folder)
    if not _is_own(folder, found) and (found is not None or not _tells_more(files)):
        return
    content: dict[str, Any] = found or {FILES_KEY: {}, MARK_KEY: mark_of(_KIND, _place(folder))}
    known = content[FILES_KEY]
    if not files.items() <= known.items():
        write_json(folder / SAMPLES_FILE, {**content, FILES_KEY: dict(sorted({**known, **files}.items()))})


def check_can_add_ids(folder: Path, files: Mapping[str, str]) -> None:
    """Raises: UserError where `samples.json` is needed to say which id each file has, and one that is not ours has that name."""
    found = _read_samples_file(folder)
    if found is not None and not _is_own(folder, found) and _tells_more(files):
        raise foreign(folder / SAMPLES_FILE, "name another folder")


def _is_own(folder: Path, found: Any) -> bool:
    """Whether what a `samples.json` holds was written by `add_ids` for this folder."""
    return isinstance(found, dict) and isinstance(found.get(FILES_KEY), dict) and fits(found.get(MARK_KEY), _KIND, _place(folder))


def _place(folder: Path) -> str:
    return folder.resolve().name


def _tells_more(files: Mapping[str, str]) -> bool:
    """Whether the id of some file is not plain to see in its name."""
    return any("/" in name or name != f"{name_id}{PurePosixPath(name).suffix}" for name, name_id in files.items())


def _read_samples_file(folder: Path) -> Any:
    """What `samples.json` holds; None where there is none."""
    try:
        return json.loads((folder / SAMPLES_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError):
        return ""
