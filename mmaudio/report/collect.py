"""`mmaudio report`: the page of a run, or of several beside each other, a folder that opens from disk."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmaudio.base.errors import Problems
from mmaudio.runs.folder import METRICS_FILE, SCORES_ENDING, SCORES_FILE, SWEEP_FILE
from mmaudio.runs.signature import CONFIG_FILE

if TYPE_CHECKING:
    from mmaudio.report.content import Report
    from mmaudio.report.run_results import FoundRun

SCORES_PATTERNS = (f"*{SCORES_ENDING}", f"{Path(SCORES_FILE).stem}*{Path(SCORES_FILE).suffix}")  # in a run's folder
OF_A_RUN = (CONFIG_FILE, METRICS_FILE, SWEEP_FILE)
NO_SAMPLES = "No samples are shown: nothing says where the sounds are that were scored; give --samples, and --reference for the real ones."


def _found(options: argparse.Namespace, folders: Sequence[Path], problems: Problems) -> "list[FoundRun]":
    from mmaudio.report.run_results import FoundRun, find_scores, labels_of, what_is_scored

    path = Path(options.scores) if options.scores else None
    named = {path: what_is_scored(path, SCORES_PATTERNS)} if path else None
    of_runs = [named or find_scores(folder, SCORES_PATTERNS) for folder in folders]
    runs = [FoundRun(*told) for told in zip(folders, labels_of(folders), of_runs, strict=True)]
    for run in runs:
        if run.folder.is_dir() and not (run.scores or any((run.folder / name).is_file() for name in OF_A_RUN)):
            problems.add(
                f"{run.folder} holds no run and no scores ({METRICS_FILE}, {', '.join(SCORES_PATTERNS)}); a run's folder is output/<exp_id>"
            )
    if options.samples is not None and not any(run.scores for run in runs):
        problems.add("--samples and --scores come together: the scores say which samples there are, and how good")
    return runs


def _report(options: argparse.Namespace, runs: "Sequence[FoundRun]", problems: Problems) -> "Report | None":
    from mmaudio.report.clips_shown import Folders, all_labels, find_media, samples_of
    from mmaudio.report.content import Report
    from mmaudio.report.run_results import heading, read_all_scores, read_run_record

    read = problems.check(lambda: read_all_scores(runs, must_read=options.scores is not None))
    records = problems.check(lambda: [read_run_record(run.label, run.folder / METRICS_FILE, run.folder / SWEEP_FILE) for run in runs])
    if read is None or records is None:
        return None
    scores, notes = read
    folders = Folders(*(Path(folder) if folder else None for folder in (options.samples, options.reference)))
    has_samples = find_media(scores, folders)
    return Report(
        *heading([run.label for run in runs]),
        runs=records,
        columns=[file.column for file in scores],
        samples=samples_of(scores, folders, options.num_samples) if has_samples else (),
        sound_labels=all_labels(scores),
        notes=notes if has_samples or not scores else [*notes, NO_SAMPLES],
    )
