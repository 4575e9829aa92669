"""`mmaudio report`: the page of a run, or of several beside each other, a folder that opens from disk."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmaudio.base.errors import Problems
from mmaudio.base.logs import start_logging
from mmaudio.base.options import parse_options
from mmaudio.commands.report_options import check_options, report_parser
from mmaudio.report.page_mark import check_page
from mmaudio.runs.names import CONFIG_FILE, METRICS_FILE, SCORES_ENDING, SCORES_FILE, SWEEP_FILE

if TYPE_CHECKING:
    from mmaudio.report.content import Report
    from mmaudio.report.runs import FoundRun

SCORES_PATTERNS = (f"*{SCORES_ENDING}", f"{Path(SCORES_FILE).stem}*{Path(SCORES_FILE).suffix}")  # in a run's folder
OF_A_RUN = (CONFIG_FILE, METRICS_FILE, SWEEP_FILE)
NO_SAMPLES = "No samples are shown: nothing says where the sounds are that were scored; give --samples, and --reference for the real ones."


def _found(options: argparse.Namespace, folders: Sequence[Path], problems: Problems) -> "list[FoundRun]":
    from mmaudio.report.runs import FoundRun, find_scores, labels_of, what_is_scored

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


def main(argv: Sequence[str]) -> int:
    problems = Problems()
    options = parse_options(report_parser(), argv, problems)
    folders = [Path(run) for run in options.run]
    check_options(options, folders, problems)
    runs = _found(options, folders, problems)
    output = Path(options.output) if options.output else folders[0] / "report"
    if not options.replace:
        problems.check(lambda: check_page(output))
    problems.raise_any()
    start_logging()
    report = _report(options, runs, problems)
    problems.raise_any()
    assert report is not None
    from mmaudio.report.numbers import bytes_text
    from mmaudio.report.page import write_page

    written = write_page(output, report, replaces=options.replace)
    print(f"page: {written.index.resolve()}")
    lacking = f"; {len(written.lacks)} of the sounds and pictures are not there, and their cards say why" if written.lacks else ""
    print(f"{len(runs)} run{'s' * (len(runs) > 1)}, {written.num_samples} samples, {bytes_text(written.num_bytes)}{lacking}")
    return 0


def _report(options: argparse.Namespace, runs: "Sequence[FoundRun]", problems: Problems) -> "Report | None":
    from mmaudio.report.choice import all_labels, samples_of, say_where
    from mmaudio.report.content import Report
    from mmaudio.report.media_files import Folders
    from mmaudio.report.runs import heading, read_all_scores, read_record

    read = problems.check(lambda: read_all_scores(runs, must_read=options.scores is not None))
    records = problems.check(lambda: [read_record(run.label, run.folder / METRICS_FILE, run.folder / SWEEP_FILE) for run in runs])
    if read is None or records is None:
        return None
    scores, notes = read
    folders = Folders(*(Path(folder) if folder else None for folder in (options.samples, options.reference)))
    has_samples = say_where(scores, folders)
    return Report(
        *heading([run.label for run in runs]),
        runs=records,
        columns=[file.column for file in scores],
        samples=samples_of(scores, folders, options.num_samples) if has_samples else (),
        sound_labels=all_labels(scores),
        notes=notes if has_samples or not scores else [*notes, NO_SAMPLES],
    )
