"""A set scored, by every metric that was named: what needs no weights, and what rests on features, ready for JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmaudio.distributed.collectives import on_first_rank
from mmaudio.distributed.ranks import Ranks
from mmaudio.evaluation.feature_files import FeatureFiles
from mmaudio.evaluation.protocol import ScoringJob, ScoringProtocol
from mmaudio.evaluation.sets import EvalSet, captions_hash
from mmaudio.files.atomic import text_hash
from mmaudio.files.tensor_files import read_state_dict
from mmaudio.metrics.av_bench import run_av_bench
from mmaudio.metrics.feature_cache import CACHE_FILES
from mmaudio.metrics.feature_scores import MeasuredMetrics, measure
from mmaudio.metrics.registry import Metric, metric_versions
from mmaudio.metrics.sound_scores import score_folder, without_reference
from mmaudio.weights import locate

NO_SOUNDS = "no real sounds of the set are at hand; give reference=FOLDER"


@dataclass(frozen=True)
class FeatureScores:
    """Numbers that rest on features: metric → its entry, metric → id → number, counts, and by what weights, which results share."""

    values: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    per_clip: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    counts: Mapping[str, Any] = field(default_factory=dict)
    made_by: Mapping[str, Any] = field(default_factory=dict)


def score_set(chosen: EvalSet, folder: Path, scoring: ScoringJob, ranks: Ranks) -> dict[str, Any]:
    """Collective. Score the sounds in a folder; on every rank the same.

    Returns: as `score_folder`, with the metrics that rest on features among `metrics` and the `metrics` of each clip.
    Raises: UserError where too few of the set have a sound.
    """
    protocol = scoring.protocol
    embedded = [row for row in protocol.rows if row.is_embedded]
    cached = [row for row in protocol.rows if not row.is_embedded]
    wanted = [*chosen.captions, *chosen.left_out]  # a clip that could not be sampled is missing, not another set
    reference = {name: chosen.sounds.get(name) for name in wanted} if chosen.sounds else {}
    if embedded and reference:
        scores = score_folder(
            folder,
            reference,
            duration_s=protocol.duration_s,
            captions=chosen.captions,
            tolerance_s=protocol.tolerance_s,
            min_coverage=scoring.min_coverage,
            only_samples=scoring.only_samples,
            ranks=ranks,
            beat=scoring.beat,
        )
        scores["metrics"] = {row.name: scores["metrics"][row.name] for row in embedded}
    else:
        scores = without_reference(folder, chosen.captions, embedded, NO_SOUNDS, scoring.min_coverage, only_samples=scoring.only_samples)
    found = score_by_features(cached, chosen, folder, scoring, ranks) if cached else FeatureScores()
    _add_(scores, found)
    for row in scores["clips"]:
        row["video_file"] = str(chosen.videos[row["id"]]) if row["id"] in chosen.videos else None
    return {**scores, "protocol": {**scores["protocol"], **_protocol(chosen, protocol, found)}}


def _add_(scores: dict[str, Any], found: FeatureScores) -> None:
    """Add the numbers that rest on features to the scores of a set."""
    scores["metrics"] |= found.values
    for row in scores["clips"]:
        row["metrics"] |= {name: by_id.get(row["id"]) for name, by_id in found.per_clip.items()}
    scores["judged"] = found.counts


def _protocol(chosen: EvalSet, protocol: ScoringProtocol, found: FeatureScores) -> Mapping[str, Any]:
    """What two results must share for their numbers to be compared, beside what the embedded metrics say of it."""
    rate = {} if protocol.sample_rate_hz is None else {"sample_rate_hz": protocol.sample_rate_hz}
    on_text = any(CACHE_FILES[stem].made_of == "text" for row in protocol.rows for stem in row.reference_stems)
    # captions that no metric compares with are what was asked for, not how it was measured
    captions = {"captions_hash": captions_hash(chosen.captions)} if on_text else {}
    return {
        "metrics": metric_versions(protocol.rows),
        "judges": dict(found.made_by),
        "engine": protocol.engine,
        **captions,
        "duration_s": protocol.duration_s,
        **rate,
        "decoder": dict(protocol.decoder),
        "sampling_seed": protocol.sampling_seed,
        "reference_hash": text_hash([f"{name} {_size(path)}" for name, path in sorted(chosen.sounds.items())]),
        "clean_names": protocol.clean_names,
    }


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1


# ---- The metrics that rest on features


def score_by_features(rows: Sequence[Metric], chosen: EvalSet, folder: Path, scoring: ScoringJob, ranks: Ranks) -> FeatureScores:
    """Collective. The metrics of a folder of sounds that rest on features; on every rank the same.

    Features of the generated sounds are made in `cache` in their folder, those of the real ones where the set, or the settings, have
    none; every process makes its share. A metric whose features cannot be had is null and says why.
    """
    given = scoring.given_cache or chosen.reference_cache
    if scoring.protocol.engine == "av_bench":
        return on_first_rank(lambda: _by_av_bench(rows, chosen, folder, given, scoring))
    files = FeatureFiles(chosen, folder, [*([given] if given else []), scoring.reference_cache], scoring, ranks)
    reasons = {row.name: files.prepare(row) for row in rows}
    can = [row.name for row in rows if reasons[row.name] is None]
    found = on_first_rank(lambda: _measure(can, files, scoring, chosen)) if can else MeasuredMetrics({}, {}, {})
    values = {row.name: found.values.get(row.name) or row.entry(None, reason=reasons[row.name]) for row in rows}
    return FeatureScores(values, found.per_clip, {**found.counts, "not_judged": files.failed}, files.made_by)


def _by_av_bench(rows: Sequence[Metric], chosen: EvalSet, folder: Path, reference: Path | None, scoring: ScoringJob) -> FeatureScores:
    found = run_av_bench(
        rows,
        reference,
        folder,
        scoring.protocol.duration_s,
        scoring.device,
        batch_size=scoring.batch_size,
        num_workers=scoring.num_workers,
        ids=chosen.captions,
        only_samples=scoring.only_samples,
    )
    return FeatureScores(found.values, found.per_clip, found.counts)


def _measure(names: Sequence[str], files: FeatureFiles, scoring: ScoringJob, chosen: EvalSet) -> MeasuredMetrics:
    return measure(
        names,
        files.reference,
        files.predicted,
        ids=[*chosen.captions, *chosen.left_out],
        min_coverage=scoring.min_coverage,
        device=str(scoring.device),
        sync_weights=lambda: read_state_dict(locate("synchformer", scoring.places.get("synchformer"))),
        clean_names=scoring.protocol.clean_names,
    )
