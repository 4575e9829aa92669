"""Locks that end with their process: of what a job writes, of weights, and of open files."""

import errno
import fcntl
import functools
import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmaudio.base.errors import UserError
from mmaudio.files.file_names import file_name
from mmaudio.files.ownership import at_end_of_links, foreign, mark_of, mark_text, parse_mark

if TYPE_CHECKING:
    from filelock import FileLock

log = logging.getLogger(__name__)
SHARED, EXCLUSIVE = fcntl.LOCK_SH, fcntl.LOCK_EX
PATIENCE_S = 2.0  # how long a lock that another process is just taking or leaving is waited for
_TICK_S = 0.05
_KIND = "lock"
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF)  # the last: of a folder on NFS
_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)


# ---- One job at a time that writes a file or folder


@contextmanager
def hold_target(target: Path, what: str, *, shared_by: str | None = None, waits: bool = False) -> Iterator[None]:
    """Keep other jobs from writing a file or folder for the block. The lock is a file beside the target, at the end of its links.

    Args:
        what: is written there, as messages name it: `the store my/birds`.
        shared_by: text that all processes of one job give, such as a hash of its settings; they hold the lock together.
        waits: wait for the end of another job, however long it takes, instead of refusing: where both make the same.
    Raises: UserError naming who holds the lock; or where a file that is not ours has the lock's name.
    """
    real = at_end_of_links(target)
    path = real.with_name(file_name(f".{real.name}", ".lock"))
    is_new_folder = not path.parent.exists()
    until = time.monotonic() + PATIENCE_S
    while (handle := _try_hold(path, shared_by)) is None:
        if time.monotonic() > until:
            if not waits:
                raise UserError(f"another job is writing {what}: {_holder(path)}; wait for its end, stop it, or name another place")
            log.info("waiting for another job that is writing %s: %s", what, _holder(path))
            until = float("inf")
        time.sleep(_TICK_S)
    try:
        yield
    finally:
        try:
            if is_free(handle):  # nobody else holds it
                path.unlink(missing_ok=True)
                if is_new_folder:
                    with suppress(OSError):  # it holds something now
                        path.parent.rmdir()
        finally:
            os.close(handle)


def _try_hold(path: Path, shared_by: str | None) -> int | None:
    """The open lock file, locked; None where it was not to be had."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR):
            raise foreign(path) from None
        if error.errno == errno.ENOENT:  # the folder went with the job that had made it
            return None
        raise
    try:
        text = os.pread(handle, 1 << 16, 0).decode("utf-8", "replace")
        if text and not _is_lock(text):
            raise foreign(path)
        is_had = _take(handle, shared_by)
        if is_had and os.path.lexists(path) and os.stat(path).st_ino == os.fstat(handle).st_ino:
            return handle
    except BaseException:
        os.close(handle)
        raise
    os.close(handle)  # held by another job, or the file of one that ended just now
    return None


def _is_lock(text: str) -> bool:
    found = parse_mark(text)
    return found is not None and found.get("kind") == _KIND


def _take(handle: int, shared_by: str | None) -> bool:
    if try_lock(handle, EXCLUSIVE):
        content = mark_text(mark_of(_KIND, shared_by or "", **_job())).encode()
        os.ftruncate(handle, 0)
        os.pwrite(handle, content, 0)
        return shared_by is None or try_lock(handle, SHARED)
    if shared_by is None or not try_lock(handle, SHARED):
        return False
    found = parse_mark(os.pread(handle, 1 << 16, 0).decode("utf-8", "replace"))
    return found is not None and found.get("of") == shared_by


def _job() -> dict[str, Any]:
    """Who this process is, for messages of others."""
    command = " ".join(sys.argv)[:200].encode("utf-8", "replace").decode()
    return {"host": os.uname().nodename, "pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S"), "command": command}


def _holder(path: Path) -> str:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return f"process {found['pid']} on {found['host']}, since {found['since']} ({found['command']})"
    except (OSError, ValueError, LookupError, TypeError):
        return "a process that did not leave its name"


# ---- One process of a machine at a time for each weight


@contextmanager
def weight_lock(folder: Path, name: str) -> Iterator[None]:
    """Hold the lock of a weight for the block; others of the machine that want it wait.

    A folder that takes no lock (read-only, or a file system without them) is gone on with unlocked.
    """
    lock = _lock(folder, name)
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


def _lock(folder: Path, name: str) -> "FileLock | None":
    from filelock import FileLock, Timeout

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f".{name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info("another process is getting or checking %s; waiting for it", name)
            lock.acquire()
    except (OSError, NotImplementedError) as error:
        is_read_only = isinstance(error, OSError) and error.errno in _READ_ONLY
        log.log(logging.DEBUG if is_read_only else logging.WARNING, "%s takes no locks (%s); let one process fetch first", folder, error)
        return None
    return lock


# ---- Locks of open files


class NoLocksError(OSError):
    """The file system has no locks, so nothing can be said of who else is there."""


def take_lock(handle: int, kind: int) -> bool:
    """Whether a lock, SHARED or EXCLUSIVE, of an open file or folder was had; it is not waited for. Raises: NoLocksError."""
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _NO_LOCKS:
            raise NoLocksError(*error.args) from None
        raise
    return True


def is_free(handle: int) -> bool:
    """Whether the exclusive lock of an open file was had; False also where there are no locks."""
    try:
        return take_lock(handle, EXCLUSIVE)
    except NoLocksError:
        return False


def try_lock(handle: int, kind: int) -> bool:
    """As `take_lock`; a file system without locks is gone on with, as if nobody else were there."""
    try:
        return take_lock(handle, kind)
    except NoLocksError:
        _warn_once()
        return True


@functools.cache
def _warn_once() -> None:
    log.warning("the file system has no locks: see to it that one run works there at a time")
