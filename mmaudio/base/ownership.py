"""Marks: what this program writes into a file to say that it made it, and for what. Only what is so marked may be replaced or removed.

A name proves nothing: a user's folder may be called as ours is, and hold a `samples.json`. A mark stands in the content (a key of a JSON
file, a comment in a sound or a video, a line of a page), names program, format version, kind of file and what it belongs to (an id, a
set, a run), and counts only where that fits the place it is found at.
"""

import json
import logging
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmaudio.base.errors import UserError

log = logging.getLogger(__name__)

PROGRAM = "mmaudio"
MARK_FORMAT = 1
MARK_KEY = "mark"  # of JSON objects that carry a mark beside other keys
_ASIDE = ".aside"


def mark_of(kind: str, of: str, **facts: Any) -> dict[str, Any]:
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


def parse_mark(text: str | None) -> dict[str, Any] | None:
    """The mark that a comment holds; None where it holds something else."""
    try:
        found = json.loads(text or "")
    except (ValueError, RecursionError):
        return None
    return found if _is_mark(found) else None


def read_mark(path: Path) -> dict[str, Any] | None:
    """The mark of a JSON file; None where there is no such file, or it holds none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    found = content.get(MARK_KEY) if isinstance(content, dict) else None
    return found if _is_mark(found) else None


def _is_mark(found: Any) -> bool:
    return isinstance(found, dict) and found.get("program") == PROGRAM and found.get("format") == MARK_FORMAT


def fits(found: Mapping[str, Any] | None, kind: str, of: str) -> bool:
    """Whether a mark is of this kind, and of what belongs at the place where it was found."""
    return found is not None and found.get("kind") == kind and found.get("of") == of


def foreign(path: Path, advice: str = "", *, aside: Path | None = None) -> UserError:
    """The sentence for a file or folder that may not be replaced, with the command that moves it aside.

    Args:
        advice: what else the user may do, such as naming another place.
        aside: the name it would get; by default `aside_path`.
    """
    other = f"{advice}, or move it aside" if advice else "move it aside"
    command = f"mv {shlex.quote(str(path))} {shlex.quote(str(aside or aside_path(path)))}"
    return UserError(f"{path} was not made by this program, or by a version that left no mark in it; {other}: {command}")


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
        real = Path(os.path.realpath(path))
        kept = aside_path(real)
        os.rename(real, kept)
        os.symlink(kept, aside)
    else:
        os.rename(path, aside)
    log.warning("%s %s and is now %s", path, why, aside)
    return aside
