"""Whether a file is still the one that was read: its length and the time of its last change, noted when it is."""

import os
from pathlib import Path

Stamp = tuple[int, int]  # bytes, and the time of the last change in nanoseconds
GONE: Stamp = (-1, 0)  # there was no file to look at
UNKNOWN: Stamp = (-2, 0)  # nobody looked


def stamp_of(path: Path) -> Stamp:
    """The stamp of what a path leads to; GONE where nothing can be looked at. A file of the same length and time passes for the same."""
    try:
        status = os.stat(path)
    except OSError:
        return GONE
    return status.st_size, status.st_mtime_ns
