"""`mmaudio report`: the page of a run, or of several beside each other, a folder that opens from disk."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmaudio.base.errors import Problems
from mmaudio.base.logs import start_logging
from mmaudio.base.options import parse_options
from mmaudio.commands.report_options import check_options, report_parser
from mmaudio.runs.names import METRICS_FILE

if TYPE_CHECKING:
    from mmaudio.report.content import Report
    from mmaudio.report.runs import FoundRun

NO_SAMPLES = "No samples are shown: nothing says where the sounds are that were scored; give --samples, and --reference for the real ones."


def _found(options: argparse.Namespace, folders: Sequence[Path], problems: Problems) -> "list[FoundRun]":
    from mmaudio.report.runs import FoundRun, find_scores, labels_of

    named = [Path(options.scores)] if options.scores else None
    labels = labels_of(folders)
    runs = [FoundRun(folder, label, named or find_scores(folder)) for folder, label in zip(folders, labels, strict=True)]
    if options.samples is not None and not any(run.scores for run in runs):
        problems.add("--samples and --scores come together: the scores say which samples there are, and how good")
    return runs


def main(argv: Sequence[str]) -> int:
    problems = Problems()
    options = parse_options(report_parser(), argv, problems)
    folders = [Path(run) for run in options.run]
    check_options(options, folders, problems)
    runs = _found(options, folders, problems)
    problems.raise_any()
    start_logging()
    report = _report(options, runs, problems)
    problems.raise_any()
    assert report is not None
    from mmaudio.report.numbers import bytes_text
    from mmaudio.report.page import write_page

    written = write_page(Path(options.output) if options.output else folders[0] / "report", report)
    print(f"page: {written.index.resolve()}")
    lacking = f"; {len(written.lacks)} of the sounds and pictures are not there, and their cards say why" if written.lacks else ""
    print(f"{len(runs)} run{'s' * (len(runs) > 1)}, {written.num_samples} samples, {bytes_text(written.num_bytes)}{lacking}")
    return 0


def _report(options: argparse.Namespace, runs: "Sequence[FoundRun]", problems: Problems) -> "Report | None":
    from mmaudio.report.choice import all_labels, samples_of, say_where
    from mmaudio.report.content import Report
    from mmaudio.report.media_files import Folders
    from mmaudio.report.runs import read_all_scores, read_record

    read = problems.check(lambda: read_all_scores(runs, must_read=options.scores is not None))
    records = problems.check(lambda: [read_record(run, run.folder / METRICS_FILE) for run in runs])
    if read is None or records is None:
        return None
    scores, notes = read
    folders = Folders(*(Path(folder) if folder else None for folder in (options.samples, options.reference)))
    has_samples = say_where(scores, folders)
    return Report(
        title=", ".join(run.label for run in runs),
        subtitle="What was learned: losses, scores, and sound beside the real one.",
        runs=records,
        columns=[file.column for file in scores],
        samples=samples_of(scores, folders, options.num_samples) if has_samples else (),
        sound_labels=all_labels(scores),
        notes=notes if has_samples or not scores else [*notes, NO_SAMPLES],
    )
