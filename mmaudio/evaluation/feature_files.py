"""The features that metrics rest on, of the generated and of the real clips: found, or made by extractors here."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmaudio.base.errors import Problems, UserError, named
from mmaudio.distributed.ranks import Ranks
from mmaudio.evaluation.protocol import ScoringJob, asked_metrics
from mmaudio.evaluation.sets import EvalSet
from mmaudio.files.ownership import foreign
from mmaudio.metrics.av_bench import CACHE as AV_BENCH_CACHE
from mmaudio.metrics.extractors import extractors_for
from mmaudio.metrics.extractors.cache_features import extract_features
from mmaudio.metrics.extractors.cache_update import read_cache_record
from mmaudio.metrics.feature_cache import CACHE_FILES, Side, cache_path, foreign_features
from mmaudio.metrics.registry import Metric
from mmaudio.metrics.sound_scores import generated_sounds
from mmaudio.runs.folder import FEATURES_FOLDER
from mmaudio.settings.schema import MetricsSettings
from mmaudio.weights.verification import read_fingerprint

log = logging.getLogger(__name__)


def check_features(metrics: MetricsSettings, chosen: EvalSet, folder: Path, made: Path) -> None:
    """Whether the features that metrics need can be made without loss of files that this program did not make.

    Args:
        folder: of the generated sounds; their features go to a folder in it.
        made: where features of the real sounds go that neither the settings nor the set have.
    Raises: UserError for what is in the way, or a metric there is not.
    """
    rows = [row for row in asked_metrics(metrics) if not row.is_embedded]
    given = Path(metrics.reference_cache) if metrics.reference_cache else chosen.reference_cache
    predicted = [stem for row in rows for stem in row.predicted_stems]
    reference = [stem for row in rows for stem in row.reference_stems if not (given and cache_path(given, stem).is_file())]
    own = [(folder / FEATURES_FOLDER, _made_with(predicted)), (made, _made_with(reference))]
    problems = Problems()
    for cache, stems in own if metrics.engine == "own" else [(folder / AV_BENCH_CACHE, list(CACHE_FILES) if predicted else [])]:
        for path in foreign_features(cache, stems) if stems else ():
            problems.add(str(foreign(cache, found=path)))
    problems.raise_any()


def _made_with(stems: Iterable[str]) -> list[str]:
    """The cache files that extractors here write where these are wanted."""
    return [stem for extractor in extractors_for(stems)[0] for stem in extractor.stems]


class FeatureFiles:
    """The cache files of both sides, each brought up to date once, when a metric first needs it."""

    def __init__(self, chosen: EvalSet, folder: Path, reference: Sequence[Path], scoring: ScoringJob, ranks: Ranks) -> None:
        """`reference`: folders to look for features of the real sounds in; in the last one, those that none has are made."""
        self.reference, self.predicted = reference, folder / FEATURES_FOLDER
        self._chosen, self._scoring, self._ranks = chosen, scoring, ranks
        self._sounds = generated_sounds(folder, chosen.captions, only_samples=scoring.only_samples)
        self._told: dict[tuple[Side, str], str | None] = {}
        self.failed: dict[str, dict[str, str]] = {}  # side → id → why it has no features
        self.made_by: dict[str, Any] = {}  # extractor, or cache file that was there → what tells it from another

    def prepare(self, row: Metric) -> str | None:
        """Collective. Make the features that a metric needs; why they cannot be had, or None."""
        needs: list[tuple[Side, str]] = [("predicted", stem) for stem in row.predicted_stems]
        needs += [("reference", stem) for stem in row.reference_stems]
        hindered = next((reason for side, stem in needs if (reason := self._unobtainable(side, stem))), None)
        return hindered or next((reason for side, stem in needs if (reason := self._brought(side, stem))), None)

    def _unobtainable(self, side: Side, stem: str) -> str | None:
        """Why a file is neither there nor can be made; nothing is made."""
        if self._is_there(side, stem) or extractors_for([stem])[0]:
            return None
        where = " or ".join(str(folder) for folder in (self.reference if side == "reference" else [self.predicted]))
        return f"no {stem} features in {where}, and no judge here makes them; let av-bench make them"

    def _is_there(self, side: Side, stem: str) -> bool:
        """Whether features are at hand that are not ours to make."""
        if side == "reference":
            return any(cache_path(folder, stem).is_file() for folder in self.reference[:-1])
        return not extractors_for([stem])[0] and cache_path(self.predicted, stem).is_file()

    def _brought(self, side: Side, stem: str) -> str | None:
        if (side, stem) not in self._told:
            is_there = self._is_there(side, stem)
            self._told[side, stem] = None if is_there else self._make(side, stem)
            if is_there:
                self._note(side, stem)
        return self._told[side, stem]

    def _note(self, side: Side, stem: str) -> None:
        """Features of the reference that others made are told by their file's content; of the generated sounds, that others made them."""
        if side == "predicted":
            self.made_by[f"{side}/{stem}"] = "others"
            return
        folder = next(each for each in self.reference if cache_path(each, stem).is_file())
        self.made_by[f"{side}/{stem}"] = f"sha256:{read_fingerprint(cache_path(folder, stem)).sha256}"

    def _make(self, side: Side, stem: str) -> str | None:
        """Collective."""
        items = self._sounds if side == "predicted" else self._real(CACHE_FILES[stem].made_of)
        if not items:
            made_of = CACHE_FILES[stem].made_of
            return "no sound was generated" if side == "predicted" else f"the set has no {made_of} to make {stem} features of"
        folder, scoring, ranks = self.predicted if side == "predicted" else self.reference[-1], self._scoring, self._ranks
        try:
            failed = extract_features(
                [stem],
                items,
                folder,
                duration_s=scoring.protocol.duration_s,
                device=scoring.device,
                batch_size=scoring.batch_size,
                places=scoring.places,
                rank=ranks.rank,
                world_size=ranks.world_size,
                beat=scoring.beat,
            )
        except UserError as error:  # raised on every rank: packages or weights that are missing
            return "; ".join(error.sentences)
        if failed:
            log.warning("%d clips without %s features, %s: %s", len(failed), stem, named(sorted(failed)), next(iter(failed.values())))
            self.failed.setdefault(side, {}).update(failed)
        scoring.beat()
        if entry := read_cache_record(folder).get(stem):
            self.made_by[f"{side}/{stem}"] = entry.made_of
        return None

    def _real(self, made_of: str) -> Mapping[str, Any]:
        chosen = self._chosen
        if made_of == "text":
            return {name: caption for name, caption in chosen.captions.items() if caption}
        files = chosen.sounds if made_of == "sound" else chosen.videos
        return {name: files[name] for name in chosen.captions if name in files}
