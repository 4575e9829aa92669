"""What runs left in their folders for a page, found by name: the numbers of training, a sweep, files of scores."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmaudio.base.errors import UserError
from mmaudio.report.content import RunRecord
from mmaudio.report.scores import Scores, read_scores
from mmaudio.report.sweep import SWEEP_FILE

log = logging.getLogger(__name__)
SCORES_FILES = ("*output_metrics.json", "scores*.json")
_SWEEP_KEYS = {"sigmas", "losses", "fit_errors", "best", "live"}


@dataclass(frozen=True)
class FoundRun:
    """A run's folder, what it is called on the page, and the files of scores to read."""

    folder: Path
    label: str
    scores: Sequence[Path]


def find_scores(folder: Path) -> list[Path]:
    """Files of a run's folder that are called as scores are, by name."""
    return sorted({path for pattern in SCORES_FILES for path in folder.glob(pattern) if path.is_file()})


def labels_of(folders: Sequence[Path]) -> list[str]:
    """A name for each run: its folder's, with as many folders above it as tell runs of one name apart."""
    parts = [folder.resolve().parts for folder in folders]
    labels = []
    for own in parts:
        depth = next((n for n in range(1, len(own) + 1) if sum(other[-n:] == own[-n:] for other in parts) == 1), len(own))
        labels.append("/".join(own[-depth:]))
    return labels


def _what_is_scored(path: Path) -> str:
    """What the name of a file of scores says of it: `scores_right.json` → right, `test-output_metrics.json` → test."""
    stem = path.stem.removesuffix("output_metrics") if path.stem.endswith("output_metrics") else path.stem.removeprefix("scores")
    return stem.strip("-_. ")


def _column_label(run: FoundRun, path: Path, num_runs: int) -> str:
    what = _what_is_scored(path) if num_runs == 1 or len(run.scores) > 1 else ""
    return " · ".join(part for part in (run.label if num_runs > 1 or not what else "", what) if part)


def read_all_scores(runs: Sequence[FoundRun], *, must_read: bool) -> tuple[list[Scores], list[str]]:
    """Scores of all runs, and a sentence for each file that is called as scores are and is something else.

    Raises: UserError for such a file where `must_read`: a user named it.
    """
    found, notes, labels = [], [], set[str]()
    for run in runs:
        for path in run.scores:
            label = _column_label(run, path, len(runs))
            label = f"{label} ({path.name})" if label in labels else label
            try:
                found.append(read_scores(path, label))
                labels.add(label)
            except UserError as error:
                if must_read:
                    raise UserError(f"--scores is {path}, which is no file of scores; mmaudio evaluate writes it") from None
                notes.append(f"Left out: {error}.")
                log.warning("left out: %s", error)
    return found, notes


def read_record(run: FoundRun, metrics_log: Path) -> RunRecord:
    """A run's curves and sweep; what is not there is None. Raises: UserError for a sweep's file that is none."""
    path = run.folder / SWEEP_FILE
    return RunRecord(run.label, metrics_log if metrics_log.is_file() else None, _read_sweep(path) if path.is_file() else None)


def _read_sweep(path: Path) -> Mapping[str, Any]:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        told = None
    if not isinstance(told, dict) or not told.keys() >= _SWEEP_KEYS:
        raise UserError(f"{path} is no sweep over averages; mmaudio ema sweep writes it anew")
    return told
