"""What runs left: curves, sweeps, scores."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from mmaudio.base.errors import UserError
from mmaudio.files.atomic import parse_json
from mmaudio.metrics.results import number_of
from mmaudio.report.content import Better, Clips, RunRecord, ScoreColumn, Value
from mmaudio.report.metric_table import DIFFERENCE

log = logging.getLogger(__name__)


# ---- A JSON file of scores → a column of the table, and the rows of its clips


@dataclass(frozen=True)
class Scores:
    """One file of scores: its column, and a row per clip as the file has it. `path` is where it lies."""

    path: Path
    column: ScoreColumn
    clips: Sequence[Mapping[str, Any]]


def read_scores(path: Path, label: str) -> Scores:
    """Read a file that scoring wrote. Raises: UserError for any other file, and for one of before scores had `metrics`."""
    try:
        told = parse_json(path.read_text(encoding="utf-8"))
        is_scores = isinstance(told["clips"], list) and isinstance(told["counts"], dict) and isinstance(told["protocol"], dict)
        if is_scores and all(isinstance(row["id"], str) for row in told["clips"]):
            if not all(isinstance(part.get("metrics"), dict) for part in (told, *told["clips"])):
                raise UserError(f"{path} holds scores of an older version, without metrics; evaluate anew")
            return Scores(path, ScoreColumn(label, _values(told), _clips(told["counts"]), told["protocol"]), told["clips"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    raise UserError(f"{path} is no file of scores; mmaudio evaluate writes such files")


def _clips(counts: Mapping[str, Any]) -> Clips:
    missing = counts.get("missing_ids")
    paired, reference, failed = (_whole(counts.get(name, 0)) for name in ("paired", "reference", "failed"))
    return Clips(paired, reference, failed, len(missing) if isinstance(missing, list) else None)


def _whole(told: Any) -> int:
    """A count as it is. Raises: TypeError for anything else, which would go into the page as it stands."""
    if not isinstance(told, int) or isinstance(told, bool):
        raise TypeError(f"{told!r} is no count")
    return told


def _interval(told: Any) -> tuple[float, float] | None:
    ends = [number_of(end) for end in told] if isinstance(told, list) and len(told) == 2 else []
    return (ends[0], ends[1]) if ends and ends[0] is not None and ends[1] is not None else None


def _value(told: Mapping[str, Any]) -> Value:
    value = number_of(told["value"])
    reason = str(told.get("reason") or "no reason is told") if value is None else ""
    better: Better = told["better"] if told.get("better") in ("higher", "lower") else ""
    num = told.get("num")
    return Value(value, _interval(told.get("interval")), _unit(told), better, None if num is None else _whole(num), reason)


def _unit(told: Mapping[str, Any]) -> str:
    return str(told.get("unit") or "").replace("^2", "²")


def _values(told: Mapping[str, Any]) -> dict[str, Value]:
    values = {name: _value(entry) for name, entry in told["metrics"].items()}
    onsets, f1 = told.get("onset_f1"), values.get("onset_f1")
    if isinstance(onsets, dict) and f1 is not None:
        values[DIFFERENCE] = replace(_difference(onsets), better=f1.better)
    return values


def _difference(onsets: Mapping[str, Any]) -> Value:
    """By how much the onsets agree better than chance: its interval is in their own section, not among the metrics."""
    generated, shuffled = number_of(onsets.get("generated")), number_of(onsets.get("shuffled"))
    if generated is None or shuffled is None:
        return Value(None, reason=str(onsets.get("reason") or "there is nothing to compare with"))
    return Value(generated - shuffled, _interval(onsets.get("interval")))


def clip_numbers(row: Mapping[str, Any]) -> dict[str, float | None]:
    """Metrics of one clip by name."""
    return {name: number_of(value) for name, value in row["metrics"].items()}


# ---- Runs: their scores, curves and sweeps

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


def read_run_record(label: str, metrics_log: Path, sweep: Path) -> RunRecord:
    """A run's curves and sweep; what is not there is None. Raises: UserError for a sweep's file that is none."""
    return RunRecord(label, metrics_log if metrics_log.is_file() else None, _read_sweep(sweep) if sweep.is_file() else None)


def _read_sweep(path: Path) -> Mapping[str, Any]:
    try:
        told = parse_json(path.read_text(encoding="utf-8"))
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
