"""Atomic writes: a file or folder is either the old one or the complete new one, whatever happens in between."""

import glob
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from mmaudio.base.errors import UserError


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


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)  # signal 0 asks and does nothing
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it is another user's
        return True
    return True


def _temporary(path: Path) -> Path:
    """Where this process writes what will be `path`; no process of any machine has the same name for it."""
    return path.with_name(f".{path.name}.{os.uname().nodename}-{os.getpid()}.tmp")


def sweep(path: Path) -> None:
    """Remove what killed processes of this machine left of their tries at `path`."""
    _sweep(path.parent, "", glob.escape(path.name))


def sweep_below(folder: Path) -> None:
    """Remove what killed processes of this machine left of their tries at anything in a folder and its folders."""
    _sweep(folder, "**/", "*")


def _sweep(folder: Path, where: str, names: str) -> None:
    machine = f"{os.uname().nodename}-"
    for left in list(folder.glob(f"{where}.{names}.{glob.escape(machine)}*.tmp")):
        process = left.name.removesuffix(".tmp").rpartition(f".{machine}")[2]
        if process.isdecimal() and int(process) != os.getpid() and not _is_running(int(process)):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)


@contextmanager
def telling(path: Path) -> Iterator[None]:
    """Let an error of the disk name the file it is about, which a write by handle leaves out."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling to write to; sync and rename it onto `path` if the block succeeds, remove it if not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        with telling(path):
            yield temporary
            sync_file(temporary)
            os.replace(temporary, path)
            sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 exactly as given (no newline translation), atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(text.encode("utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON, atomically. NaN is not JSON: ValueError."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def check_replaceable(path: Path, contents: Sequence[str]) -> None:
    """Raises: UserError if `path` is a file, or a folder that holds anything but `contents` (names, or patterns of names)."""
    if path.exists() and not path.is_dir():
        raise UserError(f"{path} is a file; a folder is to be written there, so name another place")
    foreign = (
        [entry.name for entry in path.iterdir() if not any(fnmatchcase(entry.name, name) for name in contents)] if path.exists() else []
    )
    if foreign:
        raise UserError(f"{path} holds other files (such as {min(foreign)}), which would be lost; name another folder")


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary sibling folder of `path`; it is removed in the end, also by the next try if this one is killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path)
    temporary = _temporary(path)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def atomic_folder(path: Path, contents: Sequence[str]) -> Iterator[Path]:
    """Yield a temporary sibling folder; swap it in for `path` if the block succeeds.

    Only a folder of the same kind is replaced: one that holds nothing but `contents`, names or patterns of names.
    Raises: UserError for any other.

    A kill between the two renames leaves the old folder under `.<name>.old`; it is never deleted before the new one
    stands in its place. What a killed process left of its own try is removed by the next one.
    """
    check_replaceable(path, contents)
    old = path.with_name(f".{path.name}.old")
    with scratch_folder(path) as temporary:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                sync_file(file)
        sync_folder(temporary)
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
            os.rename(path, old)
        os.rename(temporary, path)
        sync_folder(path.parent)
        shutil.rmtree(old, ignore_errors=True)


def text_hash(lines: Iterable[str]) -> str:
    """A short hash of an ordered list of texts; a separator no text holds keeps ("ab", "c") and ("a", "bc") apart."""
    digest = hashlib.sha256()
    for line in lines:
        encoded = line.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    return digest.hexdigest()[:16]
