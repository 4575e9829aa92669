"""`mmaudio evaluate --generated …`: numbers for a folder of generated sounds, or of cached features, against the real ones."""

import argparse
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from mmaudio.base.errors import EXIT_REJECTS, Problems, UserError, named
from mmaudio.base.logs import start_logging
from mmaudio.base.options import options_parser, parse_options
from mmaudio.base.specs import DEFAULT_DURATION_S
from mmaudio.clips.clip_tables import read_captions
from mmaudio.features.backend_plan import read_places
from mmaudio.files.locks import hold_target
from mmaudio.files.owned_files import check_marked, write_marked
from mmaudio.files.ownership import at_end_of_links
from mmaudio.metrics.feature_cache import CACHE_FILES, cache_path
from mmaudio.metrics.registry import Metric, metrics_named
from mmaudio.metrics.results import SCORES_KIND, headline, is_incomplete, metric_values, result
from mmaudio.runs.folder import REAL_FEATURES_FOLDER, SCORES_ENDING, SCORES_FILE

if TYPE_CHECKING:
    import torch

    from mmaudio.evaluation.sets import EvalSet
    from mmaudio.metrics.feature_scores import MeasuredMetrics
    from mmaudio.settings.schema import MetricsSettings


HELP = """usage: mmaudio evaluate KEY=VALUE …             sample a whole set and score it, as evaluate.py does
       mmaudio evaluate --generated DIR …       score a folder of sounds (mmaudio evaluate --help has the options)
       mmaudio evaluate --generated_cache DIR … score cached features of av-bench (--generated_cache --help)
       mmaudio evaluate compare A.json B.json   hold two files of scores side by side
"""


def _parser() -> argparse.ArgumentParser:
    example = "mmaudio evaluate --generated output/generated --reference my/videos --captions my/test.tsv --output scores.json"
    parser = options_parser("mmaudio evaluate", f"Score generated sounds against the real ones.\n\n{HELP}", example)
    parser.add_argument("--generated", required=True, help="folder of {id}.flac; an id may lead to a folder below")
    parser.add_argument("--reference", default=None, help="folder of {id}.flac, {id}.wav, or a video {id}.mp4 with sound")
    parser.add_argument("--captions", default=None, help="table with id and label or caption: only its ids are scored")
    parser.add_argument("--duration", type=float, default=None, help="seconds compared, from the start (default: all generated, at most 8)")
    parser.add_argument("--output", default=None, help="JSON file of the scores (default: scores.json in the generated folder)")
    parser.add_argument("--metrics", default="embedded", help="names and groups, between commas: embedded, av_bench, FD-PASST, DeSync, …")
    parser.add_argument("--engine", default="own", choices=("own", "av_bench"), help="av_bench: that package, where it is installed")
    parser.add_argument("--reference_cache", default=None, help="folder of av-bench's features of the real sounds")
    parser.add_argument("--min_coverage", type=float, default=0.5, help="share of the reference that has to be there (default 0.5)")
    parser.add_argument("--clean_names", action="store_true", help="rename ids by their length, as av-bench does: for its old caches")
    parser.add_argument("--place", action="append", default=[], metavar="NAME=PATH", help="where the weights of a judge are; repeatable")
    parser.add_argument("--device", default="auto", help="of the judges: cuda, cpu or auto (default auto)")
    return parser


def main(argv: Sequence[str]) -> int:
    problems = Problems()
    options = parse_options(_parser(), argv, problems)
    output = Path(options.output) if options.output else Path(options.generated) / SCORES_FILE
    captions = problems.check(lambda: read_captions(Path(options.captions))) if options.captions else None
    _check(options, output, problems)
    metrics = _metrics(options, problems)
    wanted = _wanted(options, captions)
    duration_s = _duration_s(options, wanted, problems)
    from mmaudio.distributed.devices import pick_device
    from mmaudio.distributed.ranks import Ranks
    from mmaudio.evaluation.feature_files import check_features
    from mmaudio.evaluation.protocol import check_metrics

    problems.check(lambda: check_metrics(metrics, duration_s, metrics.places))
    device = problems.check(lambda: pick_device(options.device, Ranks()))
    chosen = None if problems.sentences else problems.check(lambda: _set(options, wanted, of_table=bool(captions)))
    if chosen is not None and not problems.sentences:
        generated, made = Path(options.generated), output.with_name(REAL_FEATURES_FOLDER)
        problems.check(lambda: check_features(metrics, chosen, generated, made))
    problems.raise_any()
    assert chosen is not None
    assert device is not None
    start_logging()
    with hold_target(output, f"the scores {output}"):
        scores = _score(chosen, output, metrics, duration_s, device)
        write_marked(output, scores, SCORES_KIND, at_end_of_links(Path(options.generated)).name)
    print(f"{headline(scores)}; all in {output}")
    return EXIT_REJECTS if is_incomplete(scores, metrics.names) else 0


def _check(options: argparse.Namespace, output: Path, problems: Problems) -> None:
    """Add a sentence for every option that cannot be meant."""
    if not 0 <= options.min_coverage <= 1:
        problems.add(f"--min_coverage is {options.min_coverage}; want a share between 0 and 1")
    if not Path(options.generated).is_dir():
        problems.add(f"--generated is {options.generated}, which is not a folder")
    if options.reference is not None and not Path(options.reference).is_dir():
        problems.add(f"--reference is {options.reference}, which is not a folder")
    if options.reference is None and not options.captions:
        problems.add(
            "what are they compared with? give --reference FOLDER, or --captions TABLE (for a text score, or with --reference_cache)"
        )
    if output.suffix != ".json":
        problems.add(f"--output is {output}; want a .json file")
    of = None if options.output else at_end_of_links(Path(options.generated)).name
    problems.check(lambda: check_marked(output, SCORES_KIND, of, "name another file: --output"))


def _metrics(options: argparse.Namespace, problems: Problems) -> "MetricsSettings":
    from mmaudio.settings.schema import MetricsSettings
    from mmaudio.weights.catalogue import find_row

    places = problems.check(lambda: read_places(options.place, "--place")) or {}
    for name in places:
        problems.check(partial(find_row, name))
    return MetricsSettings(
        names=tuple(name.strip() for name in options.metrics.split(",") if name.strip()),
        engine=options.engine,
        reference_cache=options.reference_cache,
        min_coverage=options.min_coverage,
        clean_names=options.clean_names,
        places=places,
    )


def _wanted(options: argparse.Namespace, captions: dict[str, str] | None) -> dict[str, str]:
    """Id → caption of the clips to score: those of the table, or all that the reference folder holds, in the folders that the
    generated sounds are in."""
    from mmaudio.files.owned_files import read_ids
    from mmaudio.media.suffixes import SOUND_SUFFIXES, list_below, split_suffix
    from mmaudio.metrics.sound_scores import GENERATED_SUFFIXES

    generated, reference = Path(options.generated), Path(options.reference or "")
    if captions or options.reference is None or not reference.is_dir():
        return captions or {}
    below = {str(PurePosixPath(name).parent) for name in list_below(generated, GENERATED_SUFFIXES)} - {"."}
    names = [name if folder == "." else f"{folder}/{name}" for folder in (".", *below) for name in _names_in(reference / folder)]
    ids = read_ids(reference)
    return dict.fromkeys(sorted(ids.get(name, split_suffix(name)[0]) for name in names if split_suffix(name)[1] in SOUND_SUFFIXES), "")


def _names_in(folder: Path) -> list[str]:
    return os.listdir(folder) if folder.is_dir() else []


def _set(options: argparse.Namespace, wanted: Mapping[str, str], *, of_table: bool) -> "EvalSet":
    """The clips to score, with their real sounds and videos. Raises: UserError where the reference folder has none of them."""
    from mmaudio.evaluation.sets import EvalSet
    from mmaudio.media.suffixes import SOUND_SUFFIXES, VIDEO_SUFFIXES, files_by_id

    if options.reference is None:
        return EvalSet(options.generated, wanted)
    folder = Path(options.reference)
    sounds = files_by_id(folder, wanted, SOUND_SUFFIXES)
    if not sounds:
        of_them = " of the ids asked for" if of_table else ""
        raise UserError(f"--reference {folder} holds no {', '.join(SOUND_SUFFIXES)} file{of_them}")
    return EvalSet(options.generated, wanted, files_by_id(folder, wanted, VIDEO_SUFFIXES), sounds)


def _duration_s(options: argparse.Namespace, wanted: Mapping[str, str], problems: Problems) -> float:
    """Seconds of each sound that are compared."""
    if options.duration is not None and not options.duration > 0:
        problems.add(f"--duration is {options.duration}; want a number of seconds above 0")
        return DEFAULT_DURATION_S
    generated = Path(options.generated)
    return options.duration or (_longest_s(generated, wanted) if generated.is_dir() else DEFAULT_DURATION_S)


def _longest_s(generated: Path, wanted: Mapping[str, str]) -> float:
    """Seconds of the longest generated sound that can be read, at most those of a published sample."""
    from mmaudio.media.audio import MediaError, audio_header
    from mmaudio.media.suffixes import AUDIO_SUFFIXES
    from mmaudio.metrics.sound_scores import generated_sounds

    longest_s = 0.0
    for path in {*generated.iterdir(), *generated_sounds(generated, wanted).values()}:
        if path.suffix in AUDIO_SUFFIXES:
            try:
                samples, rate_hz = audio_header(path)
            except MediaError:  # listed when it is scored
                continue
            longest_s = max(longest_s, samples / rate_hz)
    return min(DEFAULT_DURATION_S, longest_s or DEFAULT_DURATION_S)


def _score(chosen: "EvalSet", output: Path, metrics: "MetricsSettings", duration_s: float, device: "torch.device") -> dict[str, Any]:
    """The scores; features of the real sounds that nobody gave are made beside them."""
    from mmaudio.distributed.ranks import Ranks
    from mmaudio.evaluation.protocol import ScoringJob, ScoringProtocol
    from mmaudio.evaluation.scoring import score_set

    terms, made = ScoringProtocol.of(metrics, duration_s), output.with_name(REAL_FEATURES_FOLDER)
    return score_set(chosen, Path(chosen.name), ScoringJob.by(terms, metrics, device, made, places=metrics.places), Ranks())


# ---- `mmaudio evaluate --generated_cache …`: numbers from two folders of av-bench's features, without any sound

_WEIGHTS = "synchformer"  # all that cached features need of weights


def _caches_parser() -> argparse.ArgumentParser:
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


def score_caches(argv: Sequence[str]) -> int:
    problems = Problems()
    options = parse_options(_caches_parser(), argv, problems)
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
    scored = at_end_of_links(Path(options.generated_cache)).name
    problems.check(lambda: check_marked(output, SCORES_KIND, None if options.output else scored, "name another file: --output"))
    problems.raise_any()
    start_logging()
    with hold_target(output, f"the scores {output}"):
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


def _measure(options: argparse.Namespace, names: Sequence[str], sync_place: str | None) -> "MeasuredMetrics":
    from mmaudio.distributed.devices import pick_device
    from mmaudio.distributed.ranks import Ranks
    from mmaudio.files.tensor_files import read_state_dict
    from mmaudio.metrics.feature_scores import measure
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


def _scores(options: argparse.Namespace, rows: Sequence[Metric], measured: "MeasuredMetrics") -> dict[str, Any]:
    """As all files of scores are, but for what only sounds tell."""
    from mmaudio.weights.verification import read_fingerprint

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
