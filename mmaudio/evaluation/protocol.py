"""How the sounds of a set are scored, as settings say, and whether that can be done; checked before anything is sampled."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mmaudio.base.errors import Problems
from mmaudio.base.machine import num_cores
from mmaudio.features.backend import Backend
from mmaudio.features.backend_plan import places_of
from mmaudio.metrics.av_bench import check_av_bench
from mmaudio.metrics.extractors import extractors_for
from mmaudio.metrics.extractors.available import check_requirements
from mmaudio.metrics.registry import Metric, metrics_named
from mmaudio.settings.schema import BaseSettings, MetricsSettings

Beat = Callable[[], None]


@dataclass(frozen=True)
class ScoringProtocol:
    """What two results must share for their numbers to be compared, but for the clips themselves."""

    rows: tuple[Metric, ...]
    duration_s: float
    tolerance_s: float
    engine: str = "own"
    clean_names: bool = False
    decoder: Mapping[str, Any] = field(default_factory=dict)  # with what latents were sounded, …
    sample_rate_hz: int | None = None  # … at which rate …
    sampling_seed: int | None = None  # … and the seed of the noise they began as, all as far as it is known

    @classmethod
    def of(cls, metrics: MetricsSettings, duration_s: float) -> "ScoringProtocol":
        """Of sounds that nobody knows the making of. Raises: UserError for a metric there is not."""
        return cls(asked_metrics(metrics), duration_s, metrics.tolerance_s, metrics.engine, metrics.clean_names)

    def sounded_by(self, backend: Backend, sampling_seed: int) -> "ScoringProtocol":
        """Of sounds that a backend decoded."""
        decoder = {"backend": backend.name, "mode": backend.spec.mode, "weights": backend.weights}
        return replace(self, decoder=decoder, sample_rate_hz=backend.spec.rate_hz, sampling_seed=sampling_seed)


@dataclass(frozen=True)
class ScoringJob:
    """A scoring of sounds: by what protocol, and where and how it is done, which no number depends on."""

    protocol: ScoringProtocol
    device: torch.device
    reference_cache: Path  # where features of the real sounds are made, those that are nowhere else
    given_cache: Path | None = None  # where the user has such features
    places: Mapping[str, str] = field(default_factory=dict)  # weight of an extractor → where it is
    min_coverage: float = 0.0  # share of the set that has to have a sound
    only_samples: bool = False  # the folder is of samples made here: what else is in it is nobody's business
    batch_size: int = 16
    num_workers: int = 1
    beat: Beat = lambda: None

    @classmethod
    def of(cls, settings: BaseSettings, backend: Backend, reference_cache: Path, beat: Beat = lambda: None) -> "ScoringJob":
        """As the settings of a run say, of sounds that a backend decodes."""
        protocol = ScoringProtocol.of(settings.metrics, backend.spec.duration_s).sounded_by(backend, settings.seed)
        places, workers = extractor_places(settings), settings.num_workers
        scoring = cls.by(protocol, settings.metrics, backend.device, reference_cache, places=places, num_workers=workers, beat=beat)
        return replace(scoring, only_samples=True)

    @classmethod
    def by(
        cls,
        protocol: ScoringProtocol,
        metrics: MetricsSettings,
        device: torch.device,
        reference_cache: Path,
        *,
        places: Mapping[str, str],
        num_workers: int | None = None,
        beat: Beat = lambda: None,
    ) -> "ScoringJob":
        """By this protocol, the rest as the settings of metrics say. `num_workers` None: as many as there are cores to spare."""
        given = Path(metrics.reference_cache) if metrics.reference_cache else None
        workers = max(1, num_cores() - 1) if num_workers is None else num_workers
        coverage, size = metrics.min_coverage, metrics.batch_size
        return cls(protocol, device, reference_cache, given, places, coverage, batch_size=size, num_workers=workers, beat=beat)


def extractor_places(settings: BaseSettings) -> dict[str, str]:
    """Weight of an extractor → where it is, as far as settings say anything of it; those of metrics come before the backend's."""
    return {**places_of(settings), **{name: str(place) for name, place in settings.metrics.places.items()}}


def asked_metrics(metrics: MetricsSettings) -> tuple[Metric, ...]:
    """The metrics that are named. Raises: UserError for one there is not."""
    problems = Problems()
    rows = metrics_named(metrics.names, problems)
    problems.raise_any()
    return tuple(rows)


def check_scoring(settings: BaseSettings) -> None:
    """Raises: UserError as `check_metrics`, of the sounds that the settings of a run give."""
    check_metrics(settings.metrics, settings.duration_s, extractor_places(settings))


def check_metrics(metrics: MetricsSettings, duration_s: float, places: Mapping[str, str]) -> None:
    """Whether sounds can be scored as settings say.

    Raises: UserError for a metric there is not, and for what one that is asked for by its name cannot do without: packages, weights
        at their places, caches, a duration. Of a group, the results say what is missing.
    """
    problems = Problems()
    asked = [row for row in metrics_named(metrics.names, problems) if not row.is_embedded]
    if metrics.reference_cache and not Path(metrics.reference_cache).is_dir():
        problems.add(f"metrics.reference_cache is {metrics.reference_cache}, which is not a folder")
    if metrics.engine == "av_bench":
        if asked:
            problems.check(check_av_bench)
    else:
        extractors, _ = extractors_for(stem for row in asked if row.name in metrics.names for stem in row.predicted_stems)
        problems.check(partial(check_requirements, extractors, places, duration_s))
    problems.raise_any()
