"""The numbers of a sampled set: what needs no weights, and what judges tell, in one dictionary ready for JSON."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mmaudio.base.errors import Problems
from mmaudio.base.files import text_hash
from mmaudio.base.ranks import Ranks
from mmaudio.base.setting_groups import MetricsSettings
from mmaudio.base.settings import BaseSettings
from mmaudio.commands.evaluation.by_settings import places_of
from mmaudio.commands.evaluation.judged import Judged, check_judges, judged
from mmaudio.commands.evaluation.samples import Beat
from mmaudio.commands.evaluation.sets import EvalSet
from mmaudio.features.backend import Backend
from mmaudio.metrics.registry import Metric, metric_versions, metrics_named
from mmaudio.metrics.scoring import score_folder, untold

log = logging.getLogger(__name__)

NO_SOUNDS = "no real sounds of the set are at hand; give reference=FOLDER"


@dataclass(frozen=True)
class Scoring:
    """How sounds are scored: all that two results must share to be compared, but the clips themselves."""

    metrics: MetricsSettings
    rows: tuple[Metric, ...]
    duration_s: float
    rate_hz: int
    device: torch.device
    places: Mapping[str, str]
    reference_cache: Path  # where features of the real sounds are made, those that the set does not bring
    decoder: Mapping[str, Any]  # with what latents were sounded, as far as it is known …
    sampling_seed: int | None = None  # … and the seed of the noise they began as
    beat: Beat = lambda: None

    @classmethod
    def of(cls, settings: BaseSettings, backend: Backend, reference_cache: Path, beat: Beat = lambda: None) -> "Scoring":
        """As the settings say, of sounds that a backend decodes."""
        places = {**places_of(settings), **{name: str(place) for name, place in settings.metrics.places.items()}}
        decoder = {"backend": backend.name, "mode": backend.spec.mode, "weights": backend.weights}
        duration_s, rate_hz = backend.spec.duration_s, backend.spec.rate_hz
        rows = asked_metrics(settings.metrics)
        return cls(settings.metrics, rows, duration_s, rate_hz, backend.device, places, reference_cache, decoder, settings.seed, beat)


def asked_metrics(metrics: MetricsSettings) -> tuple[Metric, ...]:
    """The metrics that are named. Raises: UserError for one there is not."""
    problems = Problems()
    rows = metrics_named(metrics.names, problems)
    problems.raise_any()
    return tuple(rows)


def check_scoring(metrics: MetricsSettings) -> None:
    """Raises: UserError for a metric there is not, and for packages, weights or caches that are missing for those there are."""
    check_judges(asked_metrics(metrics), metrics)


def score_set(chosen: EvalSet, folder: Path, scoring: Scoring, ranks: Ranks) -> dict[str, Any]:
    """Collective. Score the sounds in a folder; on every rank the same.

    Returns: as `score_folder`, with the metrics of judges among `metrics` and the `metrics` of each clip.
    Raises: UserError where too few of the set have a sound.
    """
    embedded = [row for row in scoring.rows if row.is_embedded]
    cached = [row for row in scoring.rows if not row.is_embedded]
    reference = {name: chosen.sounds.get(name, Path(f"{name}.flac")) for name in chosen.captions} if chosen.sounds else {}
    if embedded and reference:
        scores = score_folder(
            folder,
            reference,
            duration_s=scoring.duration_s,
            captions=chosen.captions,
            tolerance_s=scoring.metrics.tolerance_s,
            min_coverage=scoring.metrics.min_coverage,
            ranks=ranks,
            beat=scoring.beat,
        )
        scores["metrics"] = {row.name: scores["metrics"][row.name] for row in embedded}
    else:
        scores = untold(folder, chosen.captions, embedded, NO_SOUNDS, scoring.metrics.min_coverage)
    found = judged(cached, chosen, folder, scoring, ranks) if cached else Judged({}, {}, {}, {})
    _add_(scores, found)
    for row in scores["clips"]:
        row["video_file"] = str(chosen.videos[row["id"]]) if row["id"] in chosen.videos else None
    return {**scores, "protocol": _protocol(chosen, scoring, scores, found)}


def _add_(scores: dict[str, Any], measured: Judged) -> None:
    """Bring what judges told into the scores of a set."""
    scores["metrics"] |= measured.values
    for row in scores["clips"]:
        row["metrics"] |= {name: by_id.get(row["id"]) for name, by_id in measured.per_clip.items()}
    scores["judged"] = measured.counts


def _protocol(chosen: EvalSet, scoring: Scoring, scores: Mapping[str, Any], found: Judged) -> dict[str, Any]:
    """What two results must share for their numbers to be compared."""
    return {
        **scores["protocol"],
        "metrics": metric_versions(scoring.rows),
        "judges": dict(found.made_by),
        "engine": scoring.metrics.engine,
        "ids_hash": text_hash(sorted(row["id"] for row in scores["clips"])),
        "captions_hash": text_hash([text for pair in sorted(chosen.captions.items()) for text in pair]),
        "duration_s": scoring.duration_s,
        "sample_rate_hz": scoring.rate_hz,
        "decoder": dict(scoring.decoder),
        "sampling_seed": scoring.sampling_seed,
        "reference_hash": text_hash([f"{name} {_size(path)}" for name, path in sorted(chosen.sounds.items())]),
        "clean_names": scoring.metrics.clean_names,
    }


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1


def metric_values(scores: Mapping[str, Any]) -> dict[str, float]:
    """Metric → value, of those that can be told."""
    return {name: told["value"] for name, told in scores["metrics"].items() if told["value"] is not None}


def headline(scores: Mapping[str, Any]) -> str:
    """The numbers in one line."""
    counts = scores["counts"]
    told = ", ".join(f"{name} {value:.4g}" for name, value in metric_values(scores).items())
    return f"{counts['paired']} of {counts['reference']} clips scored: {told or 'nothing can be told'}"
