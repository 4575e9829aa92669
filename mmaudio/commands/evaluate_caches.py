"""`mmaudio evaluate --generated_cache …`: numbers from two folders of av-bench's features, without any sound."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmaudio.base.errors import EXIT_REJECTS, Problems
from mmaudio.base.logs import start_logging
from mmaudio.base.marked_files import check_marked, write_marked
from mmaudio.base.naming import named
from mmaudio.base.options import options_parser, parse_options
from mmaudio.commands.backend_options import read_places
from mmaudio.metrics.cache_files import CACHE_FILES, cache_path
from mmaudio.metrics.registry import Metric, metrics_named
from mmaudio.metrics.result import SCORES_KIND, is_incomplete, metric_values, result
from mmaudio.runs.names import SCORES_ENDING

if TYPE_CHECKING:
    from mmaudio.metrics.cached import Measured

_WEIGHTS = "synchformer"  # all that cached features need of weights


def _parser() -> argparse.ArgumentParser:
    example = "mmaudio evaluate --generated_cache results/vggsound/cache --reference_cache eval-cache/vggsound-test --output scores.json"
    about = "Score cached features of generated sounds against those of the real ones; the files are av-bench's, whoever made them."
    parser = options_parser("mmaudio evaluate", about, example)
    parser.add_argument("--generated_cache", required=True, help="folder of features of the generated sounds")
    parser.add_argument("--reference_cache", required=True, help="folder of features of the real clips")
    parser.add_argument("--metrics", default="av_bench", help="names and groups, between commas (default: all that the files allow)")
    parser.add_argument("--unpaired", action="store_true", help="the two sides are of different clips: no metric of pairs")
    parser.add_argument("--clean_names", action="store_true", help="rename ids by their length, as av-bench does")
    parser.add_argument("--min_coverage", type=float, default=0.5, help="share of the reference that has to be there (default 0.5)")
    parser.add_argument("--place", action="append", default=[], metavar=f"{_WEIGHTS}=PATH", help="weights for DeSync (default: fetched)")
    parser.add_argument("--device", default="auto", help="for DeSync: cuda, cpu or auto (default auto)")
    parser.add_argument("--output", default=None, help="JSON file of the scores (default: output_metrics.json in the generated cache)")
    return parser


def main(argv: Sequence[str]) -> int:
    problems = Problems()
    options = parse_options(_parser(), argv, problems)
    rows = metrics_named([name.strip() for name in options.metrics.split(",") if name.strip()], problems)
    for row in rows:
        if row.is_embedded:
            problems.add(f"{row.name} is told from sounds, not from features; give --generated FOLDER for it")
    for name in ("generated_cache", "reference_cache"):
        if not Path(getattr(options, name)).is_dir():
            problems.add(f"--{name} is {getattr(options, name)}, which is not a folder")
    if not 0 <= options.min_coverage <= 1:
        problems.add(f"--min_coverage is {options.min_coverage}; want a share between 0 and 1")
    places = problems.check(lambda: read_places(options.place, "--place")) or {}
    for name in places.keys() - {_WEIGHTS}:
        problems.add(f"--place names {name!r}, and of cached features only DeSync loads weights; want {_WEIGHTS}=PATH")
    output = Path(options.output or Path(options.generated_cache) / SCORES_ENDING)
    if output.suffix != ".json":
        problems.add(f"--output is {output}; want a .json file")
    scored = Path(options.generated_cache).resolve().name
    problems.check(lambda: check_marked(output, SCORES_KIND, None if options.output else scored, "name another file: --output"))
    problems.raise_any()
    start_logging()
    measured = _measure(options, [row.name for row in rows], places.get(_WEIGHTS))
    scores = _scores(options, rows, measured)
    write_marked(output, scores, SCORES_KIND, scored)
    told = metric_values(scores)
    print("\n".join(f"{name:<20} {value:.6g}" for name, value in told.items()) or "nothing can be told")
    missing, strangers = measured.counts["missing_ids"], measured.counts["unexpected_ids"]
    for ids, what in ((missing, "of the reference are not there"), (strangers, "are in no reference")):
        if ids and not options.unpaired:
            print(f"{len(ids)} clips {what}: {named(ids)}")
    pairs = "unpaired" if options.unpaired else f"{measured.counts['paired']} pairs"
    print(f"{len(told)} of {len(rows)} metrics told, {pairs}; all in {output}")
    names = [word.strip() for word in options.metrics.split(",")]
    counted = {**scores, "counts": {**scores["counts"], "missing_ids": []}} if options.unpaired else scores
    return EXIT_REJECTS if is_incomplete(counted, names) else 0


def _measure(options: argparse.Namespace, names: Sequence[str], sync_place: str | None) -> "Measured":
    from mmaudio.base.ranks import Ranks, pick_device
    from mmaudio.base.tensor_files import read_state_dict
    from mmaudio.metrics.cached import measure
    from mmaudio.weights import locate

    return measure(
        names,
        Path(options.reference_cache),
        Path(options.generated_cache),
        paired=not options.unpaired,
        min_coverage=0.0 if options.unpaired else options.min_coverage,
        device=str(pick_device(options.device, Ranks())),
        sync_weights=lambda: read_state_dict(locate(_WEIGHTS, sync_place)),
        clean_names=options.clean_names,
    )


def _scores(options: argparse.Namespace, rows: Sequence[Metric], measured: "Measured") -> dict[str, Any]:
    """As all files of scores are, but for what only sounds tell."""
    from mmaudio.weights.verify import read_fingerprint

    reference = Path(options.reference_cache)
    stems = [stem for stem in CACHE_FILES if any(stem in row.reference_stems for row in rows) and cache_path(reference, stem).is_file()]
    ids = sorted({name for by_id in measured.per_clip.values() for name in by_id})
    clips = [{"id": name, "metrics": {metric: by_id.get(name) for metric, by_id in measured.per_clip.items()}} for name in ids]
    protocol = {
        "engine": "own",
        "judges": {f"reference/{stem}": f"sha256:{read_fingerprint(cache_path(reference, stem)).sha256}" for stem in stems},
        "paired": not options.unpaired,
        "clean_names": options.clean_names,
    }
    return result(rows, counts=measured.counts, metrics=measured.values, clips=clips, protocol=protocol)
