"""An id as a file name below a folder, and back. Every file that is named by an id gets its name here.

Ids come from tables and stores that others wrote, so they may hold anything: `/etc/passwd`, `../x`, a kilobyte of text. Whatever
an id is, its file lies below the folder it is written to.
"""

import hashlib
import os
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path, PurePosixPath

from mmaudio.base.errors import Problems, UserError, named

MAX_NAME_BYTES = 255  # of one part of a path, on the file systems in use
MAX_BELOW_BYTES = 2048  # of all parts together; a whole path has at most 4096
NUM_DIGITS = 16  # of the SHA-256 that close a name which is not the id itself
MAX_SHOWN = 80  # characters of a wrong id in a message


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
    return f"%{ord(sign):02X}" if sign in "\0/" or "\ud800" <= sign <= "\udfff" else sign


def _num_bytes(part: str) -> int:
    try:
        return len(os.fsencode(part))
    except UnicodeEncodeError:
        return len(part.encode("utf-8", "surrogatepass"))


def _part_name(part: str, suffix: str) -> str:
    """One part of an id as one part of a path: itself where that is a file name, else what is left of it and digits of its hash."""
    if _is_name(part) and _num_bytes(part + suffix) <= MAX_NAME_BYTES:
        return part + suffix
    return _closed(part.replace(".", "%2E") if part in (".", "..") else part, part, suffix)


def _closed(text: str, known_by: str, suffix: str) -> str:
    """A name that begins like a text and is closed by the digits of what it stands for."""
    most = MAX_NAME_BYTES - NUM_DIGITS - 1 - _num_bytes(suffix)
    kept = "".join(map(_escaped, text[:most])).encode("utf-8")[:most].decode("utf-8", "ignore")
    return f"{kept}~{_digits(known_by)}{suffix}"


def file_name(name_id: str, suffix: str = "") -> str:
    """The path, relative to a folder, of the file of an id.

    An id whose parts are plain file names keeps them: `birds/42` with `.flac` is `birds/42.flac`, as published readers expect it.
    What cannot be a name (an empty part, `.`, `..`, a NUL, more than 255 bytes with the suffix) is escaped or cut, and closed by 16
    digits of its SHA-256. An id of more than 2048 bytes, longer than a path may be, becomes one such part. Ids that differ, also in
    case or Unicode form alone, have different names.

    Args:
        suffix: of the file, with its dot; it counts towards the length.
    """
    if _num_bytes(name_id) > MAX_BELOW_BYTES:
        return _closed(name_id, name_id, suffix)
    *folders, last = name_id.split("/")
    return "/".join([*(_part_name(part, "") for part in folders), _part_name(last, suffix)])


def file_of(folder: Path, name_id: str, suffix: str = "") -> Path:
    """Where the file of an id is, or goes, below a folder."""
    return folder / file_name(name_id, suffix)


def ids_by_file(ids: Iterable[str], *suffixes: str) -> dict[str, str]:
    """The name of every file, relative to its folder, → its id, sorted."""
    return dict(sorted((file_name(name_id, suffix), name_id) for name_id in ids for suffix in suffixes))


def given_path(name_id: str) -> str | None:
    """The path below a folder that an operating system takes an id for, so that `./a` and `a` are one; None where it takes it for none.

    Media that somebody gives are found by it, too; what is written is named by `file_name` alone.
    """
    *folders, last = name_id.split("/")
    if is_escaping(name_id) or last in ("", "."):
        return None
    return "/".join([*(part for part in folders if part not in ("", ".")), last])


def check_distinct(ids: Iterable[str], suffixes: Sequence[str], besides: Collection[str] = ()) -> None:
    """Raises: UserError where two ids of a set would have one file, or the file of one would be where the folder of another is.

    Args:
        besides: names of other files in the folder of the set.
    """
    owner: dict[str, str] = {}
    for name_id in ids:
        name = file_name(name_id)
        if owner.setdefault(name, name_id) != name_id:
            raise UserError(f"the ids {owner[name]!r} and {name_id!r} would have one file name, {name}; rename one of them")
    folders = {str(folder): name_id for name, name_id in owner.items() if "/" in name for folder in PurePosixPath(name).parents}
    for name in besides:
        if name in folders:
            raise UserError(f"the folder of the id {folders[name]!r} would be where the file {name} is; rename that id")
    for name_id in owner.values() if folders else ():
        for suffix in suffixes:
            if (other := folders.get(file_name(name_id, suffix))) is not None:
                raise UserError(f"the file of the id {name_id!r} would be where the folder of {other!r} is; rename one of them")


def is_escaping(name_id: str) -> bool:
    """Whether an id, taken for a path, leads out of the folder it is meant for, or can be no path."""
    return name_id.startswith("/") or "\0" in name_id or ".." in name_id.split("/")


def check_ids(ids: Iterable[str], where: str) -> None:
    """Raises: UserError for ids of a table that are paths out of their folder: absolute, with `..`, or with a NUL."""
    wrong = [name_id for name_id in ids if is_escaping(name_id)]
    if wrong:
        advice = "want ids that name a file below a folder, such as 'rain' or 'street/rain'"
        first = named([name_id if len(name_id) <= MAX_SHOWN else f"{name_id[:MAX_SHOWN]}…" for name_id in wrong])
        raise UserError(f"{where} has {len(wrong)} ids that are absolute paths or hold '..' or NUL ({first}); {advice}")


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
    longest, most = max(map(_num_bytes, value.split("/"))), MAX_NAME_BYTES - _num_bytes(longest_suffix)
    if longest > most:
        raise UserError(
            f"{what} is {value[:40]!r}…, {longest - most} bytes too long for the names of files that are called by it; want at most {most}"
        )


def check_plain_path(what: str, value: str, longest_suffix: str = "") -> None:
    """As `check_plain_name`, for a name that may lead to a folder below (`team/birds`)."""
    problems = Problems()
    for part in value.split("/"):
        if not _is_name(part):
            problems.add(f"{what} is {value[:80]!r}; want a relative path without empty parts, '.' or '..'")
    problems.raise_any()
    check_length(what, value, longest_suffix)
