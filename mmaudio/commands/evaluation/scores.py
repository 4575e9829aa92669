"""The numbers of a folder of sounds: what needs no weights, and what rests on features, in one dictionary ready for JSON."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmaudio.base.files import text_hash
from mmaudio.base.ranks import Ranks
from mmaudio.commands.evaluation.by_features import FeatureScores, score_by_features
from mmaudio.commands.evaluation.scoring import Scoring, Terms
from mmaudio.commands.evaluation.sets import EvalSet, captions_hash
from mmaudio.metrics.cache_files import CACHE_FILES
from mmaudio.metrics.registry import metric_versions
from mmaudio.metrics.scoring import score_folder, without_reference

NO_SOUNDS = "no real sounds of the set are at hand; give reference=FOLDER"


def score_set(chosen: EvalSet, folder: Path, scoring: Scoring, ranks: Ranks) -> dict[str, Any]:
    """Collective. Score the sounds in a folder; on every rank the same.

    Returns: as `score_folder`, with the metrics that rest on features among `metrics` and the `metrics` of each clip.
    Raises: UserError where too few of the set have a sound.
    """
    terms = scoring.terms
    embedded = [row for row in terms.rows if row.is_embedded]
    cached = [row for row in terms.rows if not row.is_embedded]
    wanted = [*chosen.captions, *chosen.left_out]  # a clip that could not be sampled is missing, not another set
    reference = {name: chosen.sounds.get(name) for name in wanted} if chosen.sounds else {}
    if embedded and reference:
        scores = score_folder(
            folder,
            reference,
            duration_s=terms.duration_s,
            captions=chosen.captions,
            tolerance_s=terms.tolerance_s,
            min_coverage=scoring.min_coverage,
            ranks=ranks,
            beat=scoring.beat,
        )
        scores["metrics"] = {row.name: scores["metrics"][row.name] for row in embedded}
    else:
        scores = without_reference(folder, chosen.captions, embedded, NO_SOUNDS, scoring.min_coverage)
    found = score_by_features(cached, chosen, folder, scoring, ranks) if cached else FeatureScores()
    _add_(scores, found)
    for row in scores["clips"]:
        row["video_file"] = str(chosen.videos[row["id"]]) if row["id"] in chosen.videos else None
    return {**scores, "protocol": {**scores["protocol"], **_protocol(chosen, terms, found)}}


def _add_(scores: dict[str, Any], found: FeatureScores) -> None:
    """Bring what features told into the scores of a set."""
    scores["metrics"] |= found.values
    for row in scores["clips"]:
        row["metrics"] |= {name: by_id.get(row["id"]) for name, by_id in found.per_clip.items()}
    scores["judged"] = found.counts


def _protocol(chosen: EvalSet, terms: Terms, found: FeatureScores) -> Mapping[str, Any]:
    """What two results must share for their numbers to be compared, beside what the embedded metrics say of it."""
    rate = {} if terms.sample_rate_hz is None else {"sample_rate_hz": terms.sample_rate_hz}
    on_text = any(CACHE_FILES[stem].made_of == "text" for row in terms.rows for stem in row.reference_stems)
    captions = (
        {"captions_hash": captions_hash(chosen.captions)} if on_text else {}
    )  # else they are what was asked for, not how it was measured
    return {
        "metrics": metric_versions(terms.rows),
        "judges": dict(found.made_by),
        "engine": terms.engine,
        **captions,
        "duration_s": terms.duration_s,
        **rate,
        "decoder": dict(terms.decoder),
        "sampling_seed": terms.sampling_seed,
        "reference_hash": text_hash([f"{name} {_size(path)}" for name, path in sorted(chosen.sounds.items())]),
        "clean_names": terms.clean_names,
    }


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1
