"""`mmaudio report`: the page of a run, a folder that opens from disk."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmaudio.base.errors import Problems, UserError
from mmaudio.base.logs import start_logging
from mmaudio.base.options import options_parser, parse_options
from mmaudio.runs.names import METRICS_FILE

if TYPE_CHECKING:
    from mmaudio.report.content import Sample

PLAYABLE = (".mp4", ".flac", ".wav")


def _parser() -> argparse.ArgumentParser:
    example = "mmaudio report output/birds --samples output/birds/samples --reference my/videos --scores output/birds/scores.json"
    parser = options_parser("mmaudio report", "Make the page of a run: curves, scores, and videos to listen to.", example)
    parser.add_argument("run", help="folder of the run, output/<exp_id>")
    parser.add_argument("--samples", default=None, help="folder of generated {id}.flac and {id}.mp4")
    parser.add_argument("--reference", default=None, help="folder of the real {id}.mp4, {id}.flac or {id}.wav")
    parser.add_argument("--scores", default=None, help="JSON that mmaudio evaluate wrote for these samples")
    parser.add_argument("--num_samples", type=int, default=16, help="samples shown at most (default 16)")
    parser.add_argument("--output", default=None, help="folder of the page (default: report in the run's folder)")
    return parser


def main(argv: Sequence[str]) -> int:
    problems = Problems()
    options = parse_options(_parser(), argv, problems)
    run = Path(options.run)
    if not run.is_dir():
        problems.add(f"no run at {run}; a run's folder is output/<exp_id>")
    for name in ("samples", "reference"):
        folder = getattr(options, name)
        if folder is not None and not Path(folder).is_dir():
            problems.add(f"--{name} is {folder}, which is not a folder")
    if options.scores is not None and not Path(options.scores).is_file():
        problems.add(f"--scores is {options.scores}, which is not a file; mmaudio evaluate writes it")
    if (options.samples is None) != (options.scores is None):
        problems.add("--samples and --scores come together: the scores say which samples there are, and how good")
    problems.raise_any()
    start_logging()
    print(f"page: {_write(options, run).resolve()}")
    return 0


def _write(options: argparse.Namespace, run: Path) -> Path:
    from mmaudio.report.content import Report, score_metrics
    from mmaudio.report.page import write_page

    scores = _read_scores(Path(options.scores)) if options.scores else None
    log = run / METRICS_FILE
    report = Report(
        title=run.name,
        subtitle="What the run learned: its losses, its scores, and its sound beside the real one.",
        headline=_headline(scores) if scores else {},
        metrics=score_metrics(scores) if scores else (),
        samples=_samples(options, scores) if scores else (),
        metrics_log=log if log.is_file() else None,
    )
    return write_page(Path(options.output) if options.output else run / "report", report)


def _headline(scores: Mapping[str, Any]) -> dict[str, str]:
    onsets = scores["onset_f1"]
    told = {"onset F1": f"{onsets['generated']:.2f}"}
    if onsets["shuffled"] is not None:
        told["shuffled"] = f"{onsets['shuffled']:.2f}"
    return {**told, "spectral distance": f"{scores['spectral_distance']['mean']:.1f} dB", "clips": str(scores["counts"]["paired"])}


def _samples(options: argparse.Namespace, scores: Mapping[str, Any]) -> "list[Sample]":
    """The scored clips, spread evenly from the best onset F1 to the worst, so that a page does not flatter."""
    rows = sorted(scores["clips"], key=lambda row: -row["onset_f1"])
    keep = max(1, min(options.num_samples, len(rows)))
    spread = [rows[index * (len(rows) - 1) // max(1, keep - 1)] for index in range(keep)]
    return [_sample(row, options, scores["protocol"]) for row in spread]


def _playable(folder: Path, name: str) -> Path:
    """Raises: UserError where the folder has no file of a scored clip."""
    files = (path for path in (folder / f"{name}{suffix}" for suffix in PLAYABLE) if path.is_file())
    found = next(files, None)
    if found is None:
        raise UserError(f"{folder} has no sound of {name!r}, which the scores name; give the folders that were scored")
    return found


def _read_scores(path: Path) -> dict[str, Any]:
    """Raises: UserError for a file that mmaudio evaluate did not write."""
    try:
        scores: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if {"clips", "onset_f1", "protocol"} <= scores.keys():
            return scores
    except (ValueError, AttributeError):
        pass
    raise UserError(f"--scores is {path}, which is no file of scores; mmaudio evaluate writes it")


def _sample(row: Mapping[str, Any], options: argparse.Namespace, protocol: Mapping[str, Any]) -> "Sample":
    from mmaudio.metrics.sounds import read_wave
    from mmaudio.report.content import Sample, Track

    duration_s, rate_hz, name = protocol["duration_s"], protocol["rate_hz"], row["id"]

    def track(folder: str, onsets: Sequence[float]) -> Track:
        file = _playable(Path(folder), name)
        return Track(file, read_wave(file, duration_s, rate_hz), rate_hz, onsets)

    return Sample(
        id=name,
        caption=row["caption"] or "",
        generated=track(options.samples, row["generated_onsets_s"]),
        real=track(options.reference, row["real_onsets_s"]) if options.reference else None,
        numbers={"onset F1": row["onset_f1"], "spectral distance, dB": row["spectral_distance"]},
    )
