"""Files that may be replaced or removed, because what they hold proves that this program wrote them.

A JSON file carries its mark. A table has no room for one, since its format is published: a record beside it, `<file>.mark.json`, has the
SHA-256 of what was written, so that a table that somebody has edited since is theirs.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmaudio.base.files import at_end_of_links, atomic_path, write_json
from mmaudio.base.ownership import MARK_KEY, fits, foreign, mark_of, move_aside, read_mark

RECORD_ENDING = ".mark.json"
_KIND = "file"
_BLOCK_BYTES = 1 << 20


def file_sha256(path: Path) -> str | None:
    """The SHA-256 of what a file holds, in hexadecimal; None where no file is. Raises: OSError."""
    if not path.is_file():
        return None
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


# ---- JSON


def is_marked(path: Path, kind: str, of: str | None = None) -> bool:
    """Whether a JSON file is this program's, of this kind, and of what belongs at its place.

    Args:
        of: an id, set or run; None where the user named the place, so that it may be of any.
    """
    mark = read_mark(path)
    return mark is not None and fits(mark, kind, mark.get("of", "") if of is None else of)


def check_marked(path: Path, kind: str, of: str | None = None, advice: str = "name another file") -> None:
    """Raises: UserError where something stands at `path` that may not be replaced, see `is_marked`."""
    if path.exists() and not is_marked(path, kind, of):
        raise foreign(path, advice)


def write_marked(path: Path, content: Mapping[str, Any], kind: str, of: str) -> None:
    """Write JSON with its mark, atomically. What came there since `check_marked` and is of no such kind is moved aside, and said."""
    if path.exists() and not is_marked(path, kind):
        move_aside(path, follows_link=True)
    write_json(path, {**content, MARK_KEY: mark_of(kind, of)})


# ---- files with a record beside them


def record_beside(path: Path) -> Path:
    """Where the record of a file lies that has no room for a mark."""
    return path.with_name(f"{path.name}{RECORD_ENDING}")


def _recorded(path: Path) -> list[str] | None:
    """The checksums of what this program wrote to `path`; None where no record says so."""
    mark = read_mark(record_beside(path))
    if mark is None or not fits(mark, _KIND, path.name) or not isinstance(mark.get("sha256"), list):
        return None
    return mark["sha256"]


def is_recorded(path: Path) -> bool:
    """Whether a file holds what this program wrote there."""
    known = _recorded(path)
    return known is not None and file_sha256(path) in known


def check_recorded(path: Path, advice: str = "name another file") -> None:
    """Raises: UserError where `recorded_path` would replace a file, or a record, that is not what this program wrote there."""
    record, known = record_beside(path), _recorded(path)
    if record.exists() and known is None:
        raise foreign(record, advice)
    if path.exists() and not is_recorded(path):
        raise foreign(path, advice if known is None else f"it was changed after this program had written it: {advice}")


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
