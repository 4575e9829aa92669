"""An id as a file name below a folder, and back. Every file that is named by an id gets its name here.

Ids come from tables and stores that others wrote, so they may hold anything: `/etc/passwd`, `../x`, a kilobyte of text. Whatever
an id is, its file lies below the folder it is written to.
"""

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from mmaudio.base.errors import Problems, UserError
from mmaudio.base.naming import named

MAX_NAME_BYTES = 255  # of one part of a path, on the file systems in use
NUM_DIGITS = 16  # of the SHA-256 that close a name which is not the id itself


def _digits(part: str) -> str:
    return hashlib.sha256(part.encode("utf-8", "surrogatepass")).hexdigest()[:NUM_DIGITS]


def _is_name(part: str) -> bool:
    """Whether a part of an id can be a file name as it stands."""
    if part in ("", ".", "..") or "\0" in part:
        return False
    try:
        os.fsencode(part)
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True


def _escaped(sign: str) -> str:
    return sign if sign == "." or _is_name(sign) else f"%{ord(sign):02X}"


def _num_bytes(part: str) -> int:
    return len(part.encode("utf-8", "surrogatepass"))


def _part_name(part: str, suffix: str) -> str:
    """One part of an id as one part of a path: itself where that is a file name, else what is left of it and digits of its hash."""
    if _is_name(part) and _num_bytes(part + suffix) <= MAX_NAME_BYTES:
        return part + suffix
    kept = part.replace(".", "%2E") if part in (".", "..") else "".join(map(_escaped, part))
    most = MAX_NAME_BYTES - NUM_DIGITS - 1 - _num_bytes(suffix)
    return f"{kept.encode('utf-8')[:most].decode('utf-8', 'ignore')}~{_digits(part)}{suffix}"


def file_name(name_id: str, suffix: str = "") -> str:
    """The path, relative to a folder, of the file of an id.

    An id whose parts are plain file names keeps them: `birds/42` with `.flac` is `birds/42.flac`, as published readers expect it.
    What cannot be a name (an empty part, `.`, `..`, a NUL, more than 255 bytes with the suffix) is escaped or cut, and closed by 16
    digits of its SHA-256. Ids that differ, also in case or Unicode form alone, have different names.

    Args:
        suffix: of the file, with its dot; it counts towards the length.
    """
    *folders, last = name_id.split("/")
    return "/".join([*(_part_name(part, "") for part in folders), _part_name(last, suffix)])


def file_of(folder: Path, name_id: str, suffix: str = "") -> Path:
    """Where the file of an id is, or goes, below a folder."""
    return folder / file_name(name_id, suffix)


def check_distinct(ids: Iterable[str], suffixes: Sequence[str]) -> None:
    """Raises: UserError where two ids of a set would have one file, or the file of one would be where the folder of another is."""
    owner: dict[str, str] = {}
    for name_id in ids:
        name = file_name(name_id)
        if owner.setdefault(name, name_id) != name_id:
            raise UserError(f"the ids {owner[name]!r} and {name_id!r} would have one file name, {name}; rename one of them")
    folders = {str(folder): name_id for name, name_id in owner.items() for folder in PurePosixPath(name).parents}
    for name_id in owner.values():
        for suffix in suffixes:
            if (other := folders.get(file_name(name_id, suffix))) is not None:
                raise UserError(f"the file of the id {name_id!r} would be where the folder of {other!r} is; rename one of them")


def is_escaping(name_id: str) -> bool:
    """Whether an id, taken for a path, leads out of the folder it is meant for, or can be no path."""
    return name_id.startswith("/") or "\0" in name_id or ".." in name_id.split("/")


def check_ids(ids: Sequence[str], where: str) -> None:
    """Raises: UserError for ids of a table that are paths out of their folder: absolute, with `..`, or with a NUL."""
    wrong = [name_id for name_id in ids if is_escaping(name_id)]
    if wrong:
        advice = "want ids that name a file below a folder, such as 'rain' or 'street/rain'"
        raise UserError(f"{where} has {len(wrong)} ids that are absolute paths or hold '..' or NUL ({named(wrong)}); {advice}")


def check_plain_name(what: str, value: str, longest_suffix: str = "") -> None:
    """Raises: UserError where a setting that names a folder or a file is no plain name, or too long with what is appended to it.

    Args:
        what: the setting, as the message names it.
        longest_suffix: what the longest file of that name ends in.
    """
    if not _is_name(value) or "/" in value:
        raise UserError(f"{what} is {value[:80]!r}; want a plain name without slashes, not '.' or '..'")
    check_length(what, value, longest_suffix)


def check_length(what: str, value: str, longest_suffix: str = "") -> None:
    """Raises: UserError where a part of a name is over what file systems take."""
    longest = max(_num_bytes(part) for part in value.split("/")) + _num_bytes(longest_suffix)
    if longest > MAX_NAME_BYTES:
        over = longest - MAX_NAME_BYTES
        raise UserError(
            f"{what} is {value[:40]!r}…, {over} bytes too long for the names of its files; want at most {MAX_NAME_BYTES} with them"
        )


def check_plain_path(what: str, value: str, longest_suffix: str = "") -> None:
    """As `check_plain_name`, for a name that may lead to a folder below (`team/birds`)."""
    problems = Problems()
    for part in value.split("/"):
        if not _is_name(part):
            problems.add(f"{what} is {value[:80]!r}; want a relative path without empty parts, '.' or '..'")
    problems.raise_any()
    check_length(what, value, longest_suffix)
