"""`mmaudio report`: the page of a run, or of several beside each other, a folder that opens from disk."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmaudio.base.errors import Problems
from mmaudio.base.logs import start_logging
from mmaudio.base.options import options_parser, parse_options
from mmaudio.files.ownership import at_end_of_links
from mmaudio.report.page_mark import check_page
from mmaudio.runs.folder import METRICS_FILE, SCORES_ENDING, SCORES_FILE, SWEEP_FILE
from mmaudio.runs.signature import CONFIG_FILE

if TYPE_CHECKING:
    from mmaudio.report.content import Report
    from mmaudio.report.run_results import FoundRun

OF_ONE_RUN = ("samples", "reference", "scores")
NUM_SAMPLES = 16
SCORES_PATTERNS = (f"*{SCORES_ENDING}", f"{Path(SCORES_FILE).stem}*{Path(SCORES_FILE).suffix}")  # in a run's folder
OF_A_RUN = (CONFIG_FILE, METRICS_FILE, SWEEP_FILE)
NO_SAMPLES = "No samples are shown: nothing says where the sounds are that were scored; give --samples, and --reference for the real ones."


def report_parser() -> argparse.ArgumentParser:
    example = "mmaudio report output/birds\n  mmaudio report output/birds output/birds_v2 --num_samples 50 --output pages/birds"
    about = "Make the page of a run, or of several to compare: curves, scores, and videos to listen to."
    parser = options_parser("mmaudio report", about, example)
    parser.add_argument("run", nargs="+", help="folder of a run, output/<exp_id>; its curves, EMA sweep and scores are found by themselves")
    parser.add_argument("--samples", default=None, help="folder of generated {id}.flac and {id}.mp4, where the scores do not say")
    parser.add_argument("--reference", default=None, help="folder of the real {id}.mp4, {id}.flac or {id}.wav, where the scores do not say")
    parser.add_argument("--scores", default=None, help="JSON that mmaudio evaluate wrote, instead of those in the run's folder")
    parser.add_argument("--num_samples", type=int, default=NUM_SAMPLES, help=f"samples shown at most (default {NUM_SAMPLES})")
    parser.add_argument("--output", default=None, help="folder of the page (default: report in the first run's folder)")
    parser.add_argument("--replace", action="store_true", help="move a folder there that is no page of this program aside")
    return parser


def _check_options(options: argparse.Namespace, runs: Sequence[Path], problems: Problems) -> None:
    """Collect what is wrong with runs and options."""
    for run in runs:
        if not run.is_dir():
            problems.add(f"no run at {run}; a run's folder is output/<exp_id>")
    if len({at_end_of_links(run) for run in runs}) < len(runs):
        problems.add("a run is named twice; name each once")
    given = [f"--{name}" for name in OF_ONE_RUN if getattr(options, name) is not None]
    if len(runs) > 1 and given:
        problems.add(
            f"{', '.join(given)} with {len(runs)} runs: these are of one run; of several, scores and samples are found by themselves"
        )
    for name in ("samples", "reference"):
        folder = getattr(options, name)
        if folder is not None and not Path(folder).is_dir():
            problems.add(f"--{name} is {folder}, which is not a folder")
    if options.scores is not None and not Path(options.scores).is_file():
        problems.add(f"--scores is {options.scores}, which is not a file; mmaudio evaluate writes it")
    if options.num_samples < 0:
        problems.add(f"--num_samples is {options.num_samples}; want a whole number, 0 for none")


def main(argv: Sequence[str]) -> int:
    problems = Problems()
    options = parse_options(report_parser(), argv, problems)
    folders = [Path(run) for run in options.run]
    _check_options(options, folders, problems)
    runs = _found(options, folders, problems)
    output = Path(options.output) if options.output else folders[0] / "report"
    if not options.replace:
        problems.check(lambda: check_page(output))
    problems.raise_any()
    start_logging()
    report = _report(options, runs, problems)
    problems.raise_any()
    assert report is not None
    from mmaudio.report.metric_table import bytes_text
    from mmaudio.report.page import write_page

    written = write_page(output, report, replaces=options.replace)
    print(f"page: {at_end_of_links(written.index)}")
    lacking = f"; {len(written.lacks)} of the sounds and pictures are not there, and their cards say why" if written.lacks else ""
    print(f"{len(runs)} run{'s' * (len(runs) > 1)}, {written.num_samples} samples, {bytes_text(written.num_bytes)}{lacking}")
    return 0


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
