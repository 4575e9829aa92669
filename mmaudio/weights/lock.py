"""One process of a machine at a time for each weight."""

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filelock import FileLock

log = logging.getLogger(__name__)
_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextmanager
def one_process(folder: Path, name: str) -> Iterator[None]:
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
