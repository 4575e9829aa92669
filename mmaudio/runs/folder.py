"""A run's folder: its names, its lock, its marks."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path

from mmaudio.base.errors import UserError, named
from mmaudio.files.atomic import parse_json
from mmaudio.files.locks import EXCLUSIVE, try_lock
from mmaudio.files.owned_files import is_marked, write_marked
from mmaudio.files.ownership import at_end_of_links, foreign
from mmaudio.runs.signature import CONFIG_FILE, SIGNATURE_FILE, run_in

LOG_FILE = "train.log"
METRICS_FILE = "metrics.jsonl"  # a line per reading of averages: `steps_done`, and values by `stage/name`
SWEEP_FILE = "ema_sweep.json"  # losses of averages of many lengths
REQUEUE_FILE = "requeue"  # there while a run that was stopped by its scheduler waits to go on
# Sounds of a run
PREVIEWS_FOLDER = "previews"  # a few rows, while it trains
REPLACED_SAMPLES_FOLDER = "val-cache"  # of one evaluation on the way, until the next one
REAL_SOUNDS_FOLDER = "reference"  # stored latents as the codec sounds them
SAMPLED_ENDING = "-sampled"  # of a folder of sounds of stored rows, after the tag of the rows
# In and beside a folder of sounds
SCORES_FILE = "scores.json"
SCORES_ENDING = "output_metrics.json"  # of a file of scores that has the name of what was scored before it
FEATURES_FOLDER = "cache"  # av-bench's features of the generated sounds, made here …
REAL_FEATURES_FOLDER = "reference-cache"  # … and of the real ones
_REPLACED = (CONFIG_FILE, METRICS_FILE, SIGNATURE_FILE, REQUEUE_FILE, PREVIEWS_FOLDER)  # in every run's folder, but no published one
_ADDED_TO = (LOG_FILE, "events.out.tfevents.*")
_REQUEUE = "requeue"


def check_folder(run_dir: Path, exp_id: str, files: Sequence[str], *, has_checkpoint: bool) -> None:
    """Raises: UserError where a run of this name would write to files that nothing proves to be its own.

    Args:
        files: what else training writes there, as patterns of names.
        has_checkpoint: whether a training checkpoint of this name is there, which the run goes on from: one of the published system,
            whose folders have logs, weights and snapshots of the same names.
    """
    found = run_in(run_dir)
    if found == exp_id or not run_dir.is_dir():
        return
    if found is not None:
        raise UserError(f"{run_dir} holds the run {found!r}, not {exp_id!r}; choose another exp_id, or give that one with hydra.run.dir")
    patterns = _REPLACED if has_checkpoint else (*_REPLACED, *_ADDED_TO, *files)
    names = sorted(entry.name for entry in run_dir.iterdir() if any(fnmatchcase(entry.name, pattern) for pattern in patterns))
    if names:
        raise foreign(run_dir, f"training would write to what it holds ({named(names)}): choose another exp_id")


@contextmanager
def lock_run(run_dir: Path, *, holds: bool) -> Iterator[None]:
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
    content = {"stopped_at": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
    write_marked(run_dir / REQUEUE_FILE, content, _REQUEUE, run_in(run_dir) or "")


def unmark_requeue(run_dir: Path) -> None:
    """Take the mark away: the run goes on. A file of that name that this program did not leave stays."""
    path = run_dir / REQUEUE_FILE
    if is_marked(path, _REQUEUE, run_in(run_dir) or "") or _is_of_version_before(path):
        at_end_of_links(path).unlink(missing_ok=True)


def _is_of_version_before(path: Path) -> bool:
    """Whether a mark is what the version before left: the time alone."""
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and list(content) == ["stopped_at"]
