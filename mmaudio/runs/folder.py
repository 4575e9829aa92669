"""A run's folder: one job at a time works in it, and a mark in it says that a job was stopped and is to go on."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmaudio.base.errors import UserError
from mmaudio.base.files import write_json
from mmaudio.base.locks import EXCLUSIVE, try_lock
from mmaudio.runs.names import REQUEUE_FILE


@contextmanager
def held(run_dir: Path, *, holds: bool) -> Iterator[None]:
    """Keep other jobs out of a run's folder for the block, if this process is the one that `holds` it.

    Raises: UserError where another job is at work there.
    """
    if not holds:
        yield
        return
    run_dir.mkdir(parents=True, exist_ok=True)
    handle = os.open(run_dir, os.O_RDONLY)
    try:
        if not try_lock(handle, EXCLUSIVE):
            raise UserError(f"another job is training in {run_dir}; wait for its end, stop it, or choose another exp_id")
        yield
    finally:
        os.close(handle)


def mark_requeue(run_dir: Path) -> None:
    """Leave the mark that a scheduler's script looks for, with the time it was left at."""
    write_json(run_dir / REQUEUE_FILE, {"stopped_at": time.strftime("%Y-%m-%dT%H:%M:%S%z")})


def unmark_requeue(run_dir: Path) -> None:
    """Take the mark away: the run goes on."""
    (run_dir / REQUEUE_FILE).unlink(missing_ok=True)
