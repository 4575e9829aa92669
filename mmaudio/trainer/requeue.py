"""The mark in a run's folder that says it was stopped from outside and is to go on: what a scheduler's script looks for."""

import time
from pathlib import Path

from mmaudio.base.files import write_json
from mmaudio.runs.names import REQUEUE_FILE


def mark_requeue(run_dir: Path) -> None:
    """Leave the mark, with the time it was left at."""
    write_json(run_dir / REQUEUE_FILE, {"stopped_at": time.strftime("%Y-%m-%dT%H:%M:%S%z")})


def unmark_requeue(run_dir: Path) -> None:
    """Take the mark away: the run goes on."""
    (run_dir / REQUEUE_FILE).unlink(missing_ok=True)
