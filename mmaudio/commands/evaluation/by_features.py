"""The metrics that rest on features of clips: features of generated and real clips brought up to date, then compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmaudio.base.ranks import Ranks, first_does
from mmaudio.base.tensor_files import read_state_dict
from mmaudio.commands.evaluation.feature_files import FeatureFiles
from mmaudio.commands.evaluation.scoring import Scoring
from mmaudio.commands.evaluation.sets import EvalSet
from mmaudio.metrics.av_bench import run_av_bench
from mmaudio.metrics.cached import Measured, measure
from mmaudio.metrics.registry import Metric
from mmaudio.weights import locate


@dataclass(frozen=True)
class FeatureScores:
    """Numbers that rest on features: metric → its entry, metric → id → number, counts, and by what weights, which results share."""

    values: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    per_clip: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    counts: Mapping[str, Any] = field(default_factory=dict)
    made_by: Mapping[str, Any] = field(default_factory=dict)


def score_by_features(rows: Sequence[Metric], chosen: EvalSet, folder: Path, scoring: Scoring, ranks: Ranks) -> FeatureScores:
    """Collective. The metrics of a folder of sounds that rest on features; on every rank the same.

    Features of the generated sounds are made in `cache` in their folder, those of the real ones where the set, or the settings, have
    none; every process makes its share. A metric whose features cannot be had is null and says why.
    """
    given = scoring.given_cache or chosen.reference_cache
    if scoring.terms.engine == "av_bench":
        return first_does(lambda: _by_av_bench(rows, chosen, folder, given, scoring))
    files = FeatureFiles(chosen, folder, [*([given] if given else []), scoring.reference_cache], scoring, ranks)
    reasons = {row.name: files.prepare(row) for row in rows}
    can = [row.name for row in rows if reasons[row.name] is None]
    found = first_does(lambda: _measure(can, files, scoring, chosen)) if can else Measured({}, {}, {})
    values = {row.name: found.values.get(row.name) or row.entry(None, reason=reasons[row.name]) for row in rows}
    return FeatureScores(values, found.per_clip, {**found.counts, "not_judged": files.failed}, files.made_by)


def _by_av_bench(rows: Sequence[Metric], chosen: EvalSet, folder: Path, reference: Path | None, scoring: Scoring) -> FeatureScores:
    how, duration_s = {"batch_size": scoring.batch_size, "num_workers": scoring.num_workers}, scoring.terms.duration_s
    found = run_av_bench(rows, reference, folder, duration_s, scoring.device, **how, ids=chosen.captions)
    return FeatureScores(found.values, found.per_clip, found.counts)


def _measure(names: Sequence[str], files: FeatureFiles, scoring: Scoring, chosen: EvalSet) -> Measured:
    return measure(
        names,
        files.reference,
        files.predicted,
        ids=[*chosen.captions, *chosen.left_out],
        min_coverage=scoring.min_coverage,
        device=str(scoring.device),
        sync_weights=lambda: read_state_dict(locate("synchformer", scoring.places.get("synchformer"))),
        clean_names=scoring.terms.clean_names,
    )
