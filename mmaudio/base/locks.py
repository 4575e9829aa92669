"""Locks that end with the process that holds them, however it ends."""

import errno
import fcntl
import logging

log = logging.getLogger(__name__)
SHARED, EXCLUSIVE = fcntl.LOCK_SH, fcntl.LOCK_EX
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF)  # the last: of a folder on NFS


def try_lock(handle: int, kind: int) -> bool:
    """Whether a lock, SHARED or EXCLUSIVE, of an open file or folder was had.

    A file system without locks is gone on with, as if nobody else were there.
    """
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        log.warning("the file system has no locks: see to it that one run works there at a time")
    return True
