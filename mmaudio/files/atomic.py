"""Files and folders written whole or not at all: write, sync, rename; sweep what kills left; whether a place can be written."""

import errno
import hashlib
import json
import logging
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from mmaudio.base.errors import UserError
from mmaudio.files.locks import EXCLUSIVE, NoLocksError, is_free, take_lock
from mmaudio.files.ownership import aside_path, at_end_of_links, fits, mark_of, mark_text, parse_mark

log = logging.getLogger(__name__)
_PREFIX, _SUFFIX = ".mmaudio-", ".tmp"  # of a temporary folder; what it holds beside what is written:
_OWNER, _OLD = ".mmaudio-owner", ".mmaudio-old"
_KIND = "temporary"
_TRIES = 100


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary place to write a file to; sync and rename it onto `path` if the block succeeds, remove it if not."""
    target = at_end_of_links(path)
    with disk_errors_told(path), _temporary(target) as temporary:
        yield temporary
        sync_file(temporary)
        os.replace(temporary, target)
        sync_folder(target.parent)


@contextmanager
def disk_errors_told(path: Path) -> Iterator[None]:
    """Let an error of the disk name the file it is about, which a write by handle leaves out."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 exactly as given (no newline translation), atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(text.encode("utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON, atomically. NaN is not JSON: ValueError. Half a surrogate pair, as in names that are no UTF-8, is escaped."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, text.encode("utf-8", "backslashreplace").decode("utf-8") + "\n")


def parse_json(text: str | bytes) -> Any:
    """What JSON holds. Raises: ValueError for what is none, also where it is nested too deep to be read."""
    try:
        return json.loads(text)
    except RecursionError:
        raise json.JSONDecodeError("it is nested too deep", str(text[:80]), 0) from None


def text_hash(lines: Iterable[str]) -> str:
    """A short hash of an ordered list of texts; a separator no text holds keeps ("ab", "c") and ("a", "bc") apart."""
    digest = hashlib.sha256()
    for line in lines:
        encoded = line.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()[:16]


# ---- Folders


@contextmanager
def atomic_folder(
    path: Path, contents: Sequence[str], before_swap: Callable[[], None] = lambda: None, *, aside: Path | None = None
) -> Iterator[Path]:
    """Yield an empty temporary folder; swap it in for `path` if the block succeeds.

    Only a folder of the same kind is replaced: one that holds nothing but `contents`, names or patterns of names. Where `path` is a
    link, the folder it leads to is replaced.

    Args:
        before_swap: called when the new folder is complete and the old one is moved away, so that nothing can hinder the swap.
        aside: a free name beside `path` that what stands there gets, whatever it is, instead of being removed.
    Raises: UserError for any other folder.

    A kill between the two renames leaves the old folder in the temporary one, from where the next try, or `remove_leftovers`, puts it back.
    """
    target = at_end_of_links(path)
    if aside is None:
        check_replaceable(target, contents)
    with scratch_folder(target) as temporary:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                sync_file(file)
        sync_folder(temporary)
        old = temporary.with_name(_OLD) if aside is None else aside_path(target) if path.is_symlink() else aside
        if target.exists():
            os.rename(target, old)
        try:
            if aside is not None and aside != old and old.exists():
                os.symlink(old, aside)
            before_swap()
            os.rename(temporary, target)
        except BaseException:
            if old.exists() and not target.exists():
                os.rename(old, target)
                if aside is not None and aside != old:
                    aside.unlink(missing_ok=True)
            raise
        sync_folder(target.parent)
        if aside is not None and old.exists():
            log.warning("%s makes way for a new one and is now %s", path, aside)


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `path`; it is removed in the end, also by the next try if this one is killed."""
    remove_leftovers(path)
    with _temporary(path) as temporary:
        temporary.mkdir()
        yield temporary


def check_replaceable(path: Path, contents: Sequence[str]) -> None:
    """Raises: UserError if `path` is a file, or a folder that holds anything but `contents` (names, or patterns of names)."""
    if path.exists() and not path.is_dir():
        raise UserError(f"{path} is a file; a folder is to be written there, so name another place")
    foreign = (
        [entry.name for entry in path.iterdir() if not any(fnmatchcase(entry.name, name) for name in contents)] if path.exists() else []
    )
    if foreign:
        raise UserError(f"{path} holds other files (such as {min(foreign)}), which would be lost; name another folder")


def sync_file(path: Path) -> None:
    """Return when what a file holds survives a power cut."""
    with open(path, "rb") as written:
        os.fsync(written.fileno())


def sync_folder(folder: Path) -> None:
    """Return when the names in a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# ---- The temporary folder of what is being written, and what is left of those of killed processes


@contextmanager
def _temporary(target: Path) -> Iterator[Path]:
    """Yield a place for what will be `target`, in a new folder beside it; the folder is removed in the end.

    The folder has a random name, a file in it says that it is ours, and that file is locked as long as this process lives: so a later
    start can tell what a killed process left (`remove_leftovers`) from what another one, in whatever container, is writing.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    folder, handle = _new_folder(target)
    try:
        yield folder / target.name
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def _new_folder(target: Path) -> tuple[Path, int]:
    """A locked temporary folder, and the handle that holds its lock."""
    for _ in range(_TRIES):
        folder = target.parent / f"{_PREFIX}{secrets.token_hex(8)}{_SUFFIX}"
        os.mkdir(folder, 0o700)
        try:
            handle = os.open(folder / _OWNER, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:  # swept before there was anything to lock
            continue
        if _is_taken(handle) and (folder / _OWNER).exists():
            mark = mark_of(_KIND, folder.name, target=target.name, host=os.uname().nodename, pid=os.getpid())
            os.write(handle, mark_text(mark).encode())
            return folder, handle
        os.close(handle)
    raise OSError(errno.EAGAIN, "no temporary folder can be made", str(target.parent))


def _is_taken(handle: int) -> bool:
    try:
        return take_lock(handle, EXCLUSIVE)
    except NoLocksError:  # then nobody can sweep it either
        return True


def remove_leftovers(path: Path) -> None:
    """Remove what killed processes left of their tries at anything beside `path`; of a folder that they moved away, put it back."""
    for folder in list(path.parent.glob(f"{_PREFIX}*{_SUFFIX}")):
        _sweep_folder(folder)


def sweep_below(folder: Path) -> None:
    """As `remove_leftovers`, of everything in a folder and its folders."""
    for found in list(folder.glob(f"**/{_PREFIX}*{_SUFFIX}")):
        _sweep_folder(found)


def _sweep_folder(folder: Path) -> None:
    if folder.is_symlink() or not folder.is_dir():
        return
    with suppress(OSError):
        folder.rmdir()  # a process was killed before it wrote anything
        return
    try:
        handle = os.open(folder / _OWNER, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:  # not ours, or its process ends just now
        return
    try:
        text = os.pread(handle, 1 << 16, 0).decode("utf-8", "replace")
        mark = parse_mark(text)
        is_begun = not text and [path.name for path in folder.iterdir()] == [_OWNER]  # killed before its mark was written
        if (is_begun or fits(mark, _KIND, folder.name)) and is_free(handle):
            if mark is not None:
                _put_back(folder, str(mark.get("target", "")))
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(handle)


def _put_back(folder: Path, name: str) -> None:
    """Give a folder that was to be replaced its name back, where the process was killed before the new one stood there."""
    old, new = folder / _OLD, folder / name
    if not old.exists() or not new.exists() or Path(name).name != name:
        return
    target = folder.parent / name
    os.rename(old, aside_path(target) if os.path.lexists(target) else target)


# ---- Whether something can be written at a place, found before the work for it is done


def check_writable(folder: Path) -> None:
    """Raises: UserError where a folder is not there and cannot be made, or cannot be written to."""
    here = folder
    while not os.path.lexists(here):
        here = here.parent
    if here.is_symlink() and not here.exists():
        real = os.path.realpath(here)
        raise UserError(f"nothing can be written to {folder}: {here} is a link to {real}, which is not there; make that folder first")
    if not here.is_dir():
        raise UserError(f"nothing can be written to {folder}: {here} is a file where a folder has to be; name another place")
    if not os.access(here, os.W_OK | os.X_OK):
        raise UserError(f"nothing can be written to {folder}: {here} is read-only for this user; name another place, or have it opened")
