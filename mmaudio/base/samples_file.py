"""`samples.json` in a folder of samples: what made them, and the way back from the name of each file to its id."""

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from mmaudio.base.errors import UserError
from mmaudio.base.file_names import file_name
from mmaudio.base.files import write_json

SAMPLES_FILE = "samples.json"
FILES_KEY = "files"  # name of a file, relative to the folder → id; beside it stands what made the samples, where that is kept


def read_ids(folder: Path) -> dict[str, str]:
    """The name of a file → its id, as `samples.json` in a folder says, where the name is the one that the id has. Others are left out."""
    found = _read_samples_file(folder)
    some = {name: name_id for name, name_id in found[FILES_KEY].items() if isinstance(name_id, str)} if _has_files(found) else {}
    return {name: name_id for name, name_id in some.items() if file_name(name_id, PurePosixPath(name).suffix) == name}


def add_ids(folder: Path, files: Mapping[str, str]) -> None:
    """Add ids by the names of their files to `samples.json` in a folder, atomically. Where all names are their ids, none is begun.

    Raises: UserError as `check_can_add_ids`.
    """
    check_can_add_ids(folder, files)
    found = _read_samples_file(folder)
    if not _has_files(found) and (found is not None or not _tells_more(files)):
        return
    content: dict[str, Any] = found or {FILES_KEY: {}}
    known = content[FILES_KEY]
    if not files.items() <= known.items():
        write_json(folder / SAMPLES_FILE, {**content, FILES_KEY: dict(sorted({**known, **files}.items()))})


def check_can_add_ids(folder: Path, files: Mapping[str, str]) -> None:
    """Raises: UserError where `samples.json` is needed and a file of another kind has that name."""
    found = _read_samples_file(folder)
    if found is not None and not _has_files(found) and _tells_more(files):
        path = folder / SAMPLES_FILE
        raise UserError(f"{path} would say which id each file has, and is of another kind; move it away, or name another folder")


def _has_files(found: Any) -> bool:
    return isinstance(found, dict) and isinstance(found.get(FILES_KEY), dict)


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
