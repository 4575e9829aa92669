"""Marks: what this program writes into a file to say that it made it, and for what. Only what is so marked may be replaced or removed.

A name proves nothing: a user's folder may be called as ours is, and hold a `samples.json`. A mark stands in the content (a key of a JSON
file, a comment in a sound or a video, a line of a page), names program, format version, kind of file and what it belongs to (an id, a
set, a run), and counts only where that fits the place it is found at.
"""

import errno
import json
import logging
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmaudio.base.errors import UserError, named

log = logging.getLogger(__name__)
Mark = dict[str, Any]
PROGRAM = "mmaudio"
MARK_FORMAT = 1
MARK_KEY = "mark"  # of JSON objects that carry a mark beside other keys
_ASIDE = ".aside"
_ARCHIVE_END = b"PK\5\6"  # the last record of a ZIP archive: 22 bytes, of which the last two say how long a comment follows
_ARCHIVE_END_BYTES, _LONGEST_COMMENT = 22, (1 << 16) - 1


def mark_of(kind: str, of: str, **facts: Any) -> Mark:
    """The mark of a file.

    Args:
        kind: of file, such as `sample` or `page`.
        of: what it belongs to: an id, a set or a run.
        facts: what else is to be known of it, such as the hash of the settings that made it.
    """
    return {"program": PROGRAM, "format": MARK_FORMAT, "kind": kind, "of": of, **facts}


def mark_text(mark: Mapping[str, Any]) -> str:
    """A mark in one line, for a comment inside a file."""
    return json.dumps(mark, ensure_ascii=True, sort_keys=True)


def parse_mark(text: str | None) -> Mark | None:
    """The mark that a comment holds; None where it holds something else."""
    try:
        found = json.loads(text or "")
    except (ValueError, RecursionError):
        return None
    return found if _is_mark(found) else None


def read_mark(path: Path) -> Mark | None:
    """The mark of a JSON file; None where there is no such file, or it holds none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    found = content.get(MARK_KEY) if isinstance(content, dict) else None
    return found if _is_mark(found) else None


def _is_mark(found: Any) -> bool:
    return isinstance(found, dict) and found.get("program") == PROGRAM and found.get("format") == MARK_FORMAT


def fits(found: Any, kind: str, of: str) -> bool:
    """Whether a mark is of this kind, and of what belongs at the place where it was found."""
    return _is_mark(found) and found.get("kind") == kind and found.get("of") == of


def is_in_the_way(path: Path, kind: str, of: str, read: Callable[[Path], Mark | None] = read_mark) -> bool:
    """Whether something stands at a place that may not be replaced or removed: a file, folder or link without the mark that fits there.

    Args:
        read: how files of this kind carry their mark; None of what carries none, whatever it is.
    """
    return os.path.lexists(path) and not fits(read(path), kind, of)


def foreign(path: Path, advice: str = "", *, found: Path | None = None, aside: Path | None = None) -> UserError:
    """The sentence for a file or folder that may not be replaced, with the command that moves it aside.

    Args:
        advice: what else the user may do, such as naming another place.
        found: what in the folder is not ours, where it is not all of it.
        aside: the name it would get; by default `aside_path`.
    """
    what = f"{found or path} was not made by this program for this place, or by a version that left no mark in it"
    where = f"{path} holds other files: " if found not in (None, path) else ""
    return UserError(f"{where}{what}; {_way_out(path, advice, aside)}")


def foreign_files(folder: Path, paths: Sequence[Path], advice: str = "") -> UserError:
    """As `foreign`, of files in a folder: one sentence for all of them, and the command that moves the folder aside."""
    if len(paths) == 1:
        return foreign(paths[0], advice)
    which = named([str(path.relative_to(folder)) for path in paths])
    what = f"{len(paths)} files in {folder} were not made by this program for this place, or by a version that left no mark ({which})"
    return UserError(f"{what}; {_way_out(folder, advice)}")


def _way_out(path: Path, advice: str, aside: Path | None = None) -> str:
    place = path if path.name not in ("", "..") else Path(os.path.realpath(path))
    command = f"mv {shlex.quote(str(place))} {shlex.quote(str(aside or aside_path(place)))}"
    return f"{advice}, or move it aside: {command}" if advice else f"move it aside: {command}"


def at_end_of_links(path: Path) -> Path:
    """Where a path leads to: a file or folder that is replaced is replaced there, and links to it stay links.

    Raises: UserError where links lead to one another in a circle.
    """
    try:
        os.stat(path)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UserError(
                f"{path} is a link that leads back to itself, or lies below one; remove the link, or name another place"
            ) from None
    return Path(os.path.realpath(path))


def aside_path(path: Path) -> Path:
    """A name beside `path` under which nothing stands yet."""
    number, aside = 1, path.with_name(f"{path.name}{_ASIDE}")
    while os.path.lexists(aside):
        number += 1
        aside = path.with_name(f"{path.name}{_ASIDE}-{number}")
    return aside


def move_aside(path: Path, why: str = "was not made by this program", *, aside: Path | None = None, follows_link: bool = False) -> Path:
    """Give a file or folder another name, and say so.

    Args:
        why: as the message says it.
        aside: the name, in the same folder; by default `aside_path`.
        follows_link: of a link, rename what it leads to: the link stays, and one beside it leads there. For what is written where
            links lead, which would take the place of that.
    Returns: where it is now. Raises: OSError.
    """
    aside = aside or aside_path(path)
    if path.is_symlink() and follows_link:
        real = at_end_of_links(path)
        kept = aside_path(real)
        os.rename(real, kept)
        os.symlink(kept, aside)
    else:
        os.rename(path, aside)
    log.warning("%s %s and is now %s", path, why, aside)
    return aside


def mark_archive_(path: Path, mark: Mapping[str, Any]) -> None:
    """Write a mark into a ZIP archive, which files of tensors are, as its comment: what the archive holds stays as it is.

    For a file that nobody reads yet. Raises: ValueError for a file that is no archive, or that has a comment.
    """
    comment = mark_text(mark).encode()
    if len(comment) > _LONGEST_COMMENT:
        raise ValueError(f"a mark of {len(comment)} bytes; an archive's comment has at most {_LONGEST_COMMENT}")
    with open(path, "r+b") as file:
        file.seek(-min(_ARCHIVE_END_BYTES, os.fstat(file.fileno()).st_size), os.SEEK_END)
        end = file.read()
        if not end.startswith(_ARCHIVE_END) or not end.endswith(b"\0\0"):
            raise ValueError(f"{path} is no archive without a comment")
        file.seek(-2, os.SEEK_END)
        file.write(len(comment).to_bytes(2, "little") + comment)


def archive_mark(path: Path) -> Mark | None:
    """The mark in the comment of a ZIP archive, read from its end; None where there is no such file, or it holds none."""
    try:
        if not path.is_file():
            return None
        with open(path, "rb") as file:
            file.seek(-min(_ARCHIVE_END_BYTES + _LONGEST_COMMENT, os.fstat(file.fileno()).st_size), os.SEEK_END)
            tail = file.read()
    except OSError:
        return None
    start = tail.rfind(_ARCHIVE_END)
    return parse_mark(tail[start + _ARCHIVE_END_BYTES :].decode("utf-8", "replace")) if start >= 0 else None
