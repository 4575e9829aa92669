"""Folders that a command makes and may make anew: a record in them says what each file held, so that nothing of a user's is removed.

The record is a JSON file of the folder. Its mark (see `ownership`) holds the SHA-256 of every other file. A folder with a file more, or
with one that was changed, is not removed: somebody works with it.
"""

import hashlib
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmaudio.base.errors import UserError
from mmaudio.base.files import at_end_of_links, write_json
from mmaudio.base.naming import named
from mmaudio.base.ownership import MARK_KEY, aside_path, fits, foreign, mark_of, read_mark


def contents(folder: Path) -> dict[str, str]:
    """What a folder holds by path within it: the SHA-256 of a file, where a link leads, and empty folders, whose path ends in a slash."""
    found: dict[str, str] = {}
    for place, folders, names in os.walk(folder):
        for name in [*names, *(each for each in folders if os.path.islink(os.path.join(place, each)))]:
            path = Path(place, name)
            found[str(path.relative_to(folder))] = _content(path)
        if not folders and not names and Path(place) != folder:
            found[f"{Path(place).relative_to(folder)}/"] = ""
    return found


def _content(path: Path) -> str:
    if path.is_symlink():
        return f"link to {os.readlink(path)}"
    if not path.is_file():
        return "neither file nor folder"
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_record(path: Path, kind: str, of: str, content: Mapping[str, Any]) -> None:
    """Write the record of the folder that `path` lies in, as the folder is now.

    Args:
        kind, of: of its mark; see `ownership.mark_of`.
        content: what else it says, ready for JSON.
    """
    files = {name: digest for name, digest in contents(path.parent).items() if name != path.name}
    write_json(path, {**content, MARK_KEY: mark_of(kind, of, files=files)})


def check_made(path: Path, kind: str, of: str, advice: str = "") -> None:
    """Whether the folder that a record lies in may be removed: it is not there, or empty, or exactly what its record says.

    Args:
        advice: what else than moving the folder aside the user may do.
    Raises: UserError for any other, with the command that moves it aside.
    """
    folder = at_end_of_links(path.parent)
    if not os.path.lexists(folder) or (folder.is_dir() and not any(folder.iterdir())):
        return
    mark = read_mark(folder / path.name)
    files = mark.get("files") if mark is not None and fits(mark, kind, of) else None
    if not isinstance(files, dict):
        raise foreign(folder, advice)
    other = sorted(name for name, content in contents(folder).items() if name != path.name and files.get(name) != content)
    if other:
        ways = f"{advice}, or move it aside" if advice else "move it aside"
        raise UserError(
            f"{folder} holds {named(other)}, which this program did not make, or which changed since; {ways}:"
            f" mv {shlex.quote(str(folder))} {shlex.quote(str(aside_path(folder)))}"
        )
