"""Files and folders of ours that carry a mark (see `ownership`), or have one in a record: written, recognised, moved aside."""

import hashlib
import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from mmaudio.base.errors import UserError, named
from mmaudio.files.atomic import atomic_path, parse_json, write_json
from mmaudio.files.file_names import file_name
from mmaudio.files.ownership import MARK_KEY, aside_path, at_end_of_links, fits, foreign, mark_of, move_aside, read_mark

RECORD_ENDING = ".mark.json"  # of the record of a file that has no room for a mark
_KIND = "file"  # of the mark in such a record


# ---- JSON files, which have room for a mark


def is_marked(path: Path, kind: str, of: str | None = None) -> bool:
    """Whether a JSON file is this program's, of this kind, and of what belongs at its place.

    Args:
        of: an id, set or run; None where the user named the place, so that it may be of any.
    """
    mark = read_mark(path)
    return mark is not None and fits(mark, kind, mark.get("of", "") if of is None else of)


def check_marked(path: Path, kind: str, of: str | None = None, advice: str = "name another file") -> None:
    """Raises: UserError where something stands at `path` that may not be replaced, see `is_marked`."""
    if at_end_of_links(path).exists() and not is_marked(path, kind, of):
        raise foreign(path, advice)


def write_marked(path: Path, content: Mapping[str, Any], kind: str, of: str) -> None:
    """Write JSON with its mark, atomically. What came there since `check_marked` and is of no such kind is moved aside, and said."""
    if path.exists() and not is_marked(path, kind):
        move_aside(path, follows_link=True)
    write_json(path, {**content, MARK_KEY: mark_of(kind, of)})


# ---- Other files: a record beside one says what this program wrote there


@contextmanager
def recorded_path(path: Path) -> Iterator[Path]:
    """As `atomic_path`, with a record of what is written beside it; what stands there and is not this program's is moved aside, and said.

    The record comes first, and knows the file before, too: after a kill between the two, either is this program's.
    """
    with atomic_path(path) as temporary:
        yield temporary
        _make_way(path)
        known = dict.fromkeys([file_sha256(temporary), file_sha256(path)])
        write_json(record_beside(path), {MARK_KEY: mark_of(_KIND, path.name, sha256=[each for each in known if each])})


def check_recorded(path: Path, advice: str = "name another file") -> None:
    """Raises: UserError where `recorded_path` would replace a file, or a record, that is not what this program wrote there."""
    record, known = record_beside(path), _recorded(path)
    if at_end_of_links(record).exists() and known is None:
        raise foreign(record, advice)
    if at_end_of_links(path).exists() and not is_recorded(path):
        raise foreign(path, advice if known is None else f"it was changed after this program had written it: {advice}")


def remove_recorded(path: Path) -> None:
    """Remove a file that this program wrote, with its record; another one is moved aside, and said. A link stays, and leads to nothing."""
    _make_way(path)
    for each in (path, record_beside(path)):
        at_end_of_links(each).unlink(missing_ok=True)


def _make_way(path: Path) -> None:
    record = record_beside(path)
    if path.exists() and not is_recorded(path):
        move_aside(path, follows_link=True)
    if record.exists() and _recorded(path) is None:
        move_aside(record, follows_link=True)


def is_recorded(path: Path) -> bool:
    """Whether a file holds what this program wrote there."""
    known = _recorded(path)
    return known is not None and file_sha256(path) in known


def _recorded(path: Path) -> list[str] | None:
    """The checksums of what this program wrote to `path`; None where no record says so."""
    mark = read_mark(record_beside(path))
    if mark is None or not fits(mark, _KIND, path.name) or not isinstance(mark.get("sha256"), list):
        return None
    return mark["sha256"]


def record_beside(path: Path) -> Path:
    """Where the record of a file lies that has no room for a mark."""
    return path.with_name(f"{path.name}{RECORD_ENDING}")


def file_sha256(path: Path) -> str | None:
    """The SHA-256 of what a file holds, in hexadecimal; None where no file is. Raises: OSError."""
    if not path.is_file():
        return None
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# ---- Folders: a record in one holds the SHA-256 of every other file; with a file more, or a changed one, it is not removed


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
    return f"link to {os.readlink(path)}" if path.is_symlink() else file_sha256(path) or "neither file nor folder"


# ---- `samples.json` in a folder of samples: what made them, and which id each file is of

SAMPLES_FILE = "samples.json"
_SAMPLES_KIND = "names of samples"  # of the mark of a file that says no more than the ids
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
    content: dict[str, Any] = found or {FILES_KEY: {}, MARK_KEY: mark_of(_SAMPLES_KIND, _place(folder))}
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
    return isinstance(found, dict) and isinstance(found.get(FILES_KEY), dict) and fits(found.get(MARK_KEY), _SAMPLES_KIND, _place(folder))


def _place(folder: Path) -> str:
    return at_end_of_links(folder).name


def _tells_more(files: Mapping[str, str]) -> bool:
    """Whether the id of some file is not plain to see in its name."""
    return any("/" in name or name != f"{name_id}{PurePosixPath(name).suffix}" for name, name_id in files.items())


def _read_samples_file(folder: Path) -> Any:
    """What `samples.json` holds; None where there is none."""
    try:
        return parse_json((folder / SAMPLES_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        return ""
