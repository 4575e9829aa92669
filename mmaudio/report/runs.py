"""What runs left in their folders for a page, found by name: the numbers of training, a sweep, files of scores."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from mmaudio.base.errors import UserError
from mmaudio.report.content import RunRecord
from mmaudio.report.scores import Scores, number_of, read_scores

log = logging.getLogger(__name__)
_MOST_IN_TITLE = 4
_SWEEP_KEYS = {"sigmas", "losses", "fit_errors", "best", "live"}


@dataclass(frozen=True)
class FoundRun:
    """A run's folder, what it is called on the page, and the files of scores to read, each with what its name says is scored."""

    folder: Path
    label: str
    scores: Mapping[Path, str]


def what_is_scored(path: Path, patterns: Sequence[str]) -> str:
    """What stands for the * of the first pattern that a name is of: `scores_right.json` → right by scores*.json. Else its stem."""
    pattern = next((pattern for pattern in patterns if fnmatch(path.name, pattern)), None)
    if pattern is None:
        return path.stem
    before, _, after = pattern.partition("*")
    return path.name.removeprefix(before).removesuffix(after).strip("-_. ")


def find_scores(folder: Path, patterns: Sequence[str]) -> dict[Path, str]:
    """Files of a run's folder that are called as scores are, by name → what is scored; a pattern has one *."""
    found = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    return {path: what_is_scored(path, patterns) for path in sorted(found)}


def labels_of(folders: Sequence[Path]) -> list[str]:
    """A name for each run: its folder's, with as many folders above it as tell runs of one name apart."""
    parts = [folder.resolve().parts for folder in folders]
    labels = []
    for own in parts:
        depth = next((n for n in range(1, len(own) + 1) if sum(other[-n:] == own[-n:] for other in parts) == 1), len(own))
        labels.append("/".join(own[-depth:]))
    return labels


def heading(labels: Sequence[str]) -> tuple[str, str]:
    """The page's title and the line below it, for runs that are called so."""
    if len(labels) == 1:
        return labels[0], "What was learned: losses, scores, and sound beside the real one."
    shown = labels if len(labels) <= _MOST_IN_TITLE else [*labels[: _MOST_IN_TITLE - 1], f"{len(labels) - _MOST_IN_TITLE + 1} more"]
    return f"{', '.join(shown[:-1])} and {shown[-1]}", f"{len(labels)} runs compared: losses, scores, and sounds beside the real ones."


def _column_label(run: FoundRun, scored: str, num_runs: int) -> str:
    what = scored if num_runs == 1 or len(run.scores) > 1 else ""
    return " · ".join(part for part in (run.label if num_runs > 1 or not what else "", what) if part)


def read_all_scores(runs: Sequence[FoundRun], *, must_read: bool) -> tuple[list[Scores], list[str]]:
    """Scores of all runs, and a sentence for each file that is called as scores are and is something else.

    Raises: UserError for such a file where `must_read`: a user named it.
    """
    found, notes, labels = [], [], set[str]()
    for run in runs:
        for path, scored in run.scores.items():
            label = _column_label(run, scored, len(runs))
            label = f"{label} ({path.name})" if label in labels else label
            try:
                found.append(read_scores(path, label))
                labels.add(label)
            except UserError as error:
                if must_read:
                    raise
                notes.append(f"Left out: {error}.")
                log.warning("left out: %s", error)
    return found, notes


def read_record(label: str, metrics_log: Path, sweep: Path) -> RunRecord:
    """A run's curves and sweep; what is not there is None. Raises: UserError for a sweep's file that is none."""
    return RunRecord(label, metrics_log if metrics_log.is_file() else None, _read_sweep(sweep) if sweep.is_file() else None)


def _read_sweep(path: Path) -> Mapping[str, Any]:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        told = None
    if not _is_sweep(told):
        raise UserError(f"{path} is no sweep over averages; mmaudio ema sweep writes it anew")
    return dict(told)


def _is_sweep(told: Any) -> bool:
    """Whether JSON is what a sweep writes: numbers where a page draws some, a loss that was none being null."""
    if not isinstance(told, dict) or not told.keys() >= _SWEEP_KEYS:
        return False
    lists, best, live = [told[key] for key in ("sigmas", "losses", "fit_errors")], told["best"], told["live"]
    if not all(isinstance(each, list) and len(each) == len(lists[0]) for each in lists) or not isinstance(best, dict):
        return False
    if live is not None and (not isinstance(live, dict) or not isinstance(live.get("file"), str)):
        return False
    losses = [*lists[1], best.get("loss"), *([live.get("loss"), live.get("step")] if live else [])]
    numbers = [*lists[0], *lists[2], best.get("sigma"), *(loss for loss in losses if loss is not None)]
    return all(number_of(number) is not None for number in numbers) and all(sigma > 0 for sigma in lists[0])
