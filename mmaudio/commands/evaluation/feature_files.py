"""The features that metrics rest on, of the generated and of the real clips: found, or made by judges here."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmaudio.base.errors import UserError
from mmaudio.base.naming import named
from mmaudio.base.ranks import Ranks
from mmaudio.commands.evaluation.scoring import Scoring
from mmaudio.commands.evaluation.sets import EvalSet
from mmaudio.metrics.cache_files import CACHE_FILES, cache_path
from mmaudio.metrics.judges import judges_for
from mmaudio.metrics.judges.extraction import extract_features
from mmaudio.metrics.judges.record import read_record
from mmaudio.metrics.registry import Metric
from mmaudio.metrics.sides import Side
from mmaudio.metrics.sounds import generated_sounds
from mmaudio.runs.names import FEATURES_FOLDER
from mmaudio.weights.verify import read_fingerprint

log = logging.getLogger(__name__)


class FeatureFiles:
    """The cache files of both sides, each brought up to date once, when a metric first needs it."""

    def __init__(self, chosen: EvalSet, folder: Path, reference: Sequence[Path], scoring: Scoring, ranks: Ranks) -> None:
        """`reference`: folders to look for features of the real sounds in; in the last one, those that none has are made."""
        self.reference, self.predicted = reference, folder / FEATURES_FOLDER
        self._chosen, self._scoring, self._ranks = chosen, scoring, ranks
        self._sounds = generated_sounds(folder, chosen.captions)
        self._told: dict[tuple[Side, str], str | None] = {}
        self.failed: dict[str, dict[str, str]] = {}  # side → id → why it has no features
        self.made_by: dict[str, Any] = {}  # judge, or cache file that was there → what tells it from another

    def prepare(self, row: Metric) -> str | None:
        """Collective. Make the features that a metric needs; why they cannot be had, or None."""
        needs: list[tuple[Side, str]] = [("predicted", stem) for stem in row.predicted_stems]
        needs += [("reference", stem) for stem in row.reference_stems]
        hindered = next((reason for side, stem in needs if (reason := self._unobtainable(side, stem))), None)
        return hindered or next((reason for side, stem in needs if (reason := self._brought(side, stem))), None)

    def _unobtainable(self, side: Side, stem: str) -> str | None:
        """Why a file is neither there nor can be made; nothing is made."""
        if self._is_there(side, stem) or judges_for([stem])[0]:
            return None
        where = " or ".join(str(folder) for folder in (self.reference if side == "reference" else [self.predicted]))
        return f"no {stem} features in {where}, and no judge here makes them; let av-bench make them"

    def _is_there(self, side: Side, stem: str) -> bool:
        """Whether features are at hand that are not ours to make."""
        if side == "reference":
            return any(cache_path(folder, stem).is_file() for folder in self.reference[:-1])
        return not judges_for([stem])[0] and cache_path(self.predicted, stem).is_file()

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
                duration_s=scoring.terms.duration_s,
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
        if entry := read_record(folder).get(stem):
            self.made_by[f"{side}/{stem}"] = entry.made_of
        return None

    def _real(self, made_of: str) -> Mapping[str, Any]:
        chosen = self._chosen
        if made_of == "text":
            return {name: caption for name, caption in chosen.captions.items() if caption}
        files = chosen.sounds if made_of == "sound" else chosen.videos
        return {name: files[name] for name in chosen.captions if name in files}
