"""The metrics that judges tell: features of generated and real clips brought up to date, then compared."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmaudio.base.errors import UserError
from mmaudio.base.naming import named
from mmaudio.base.ranks import Ranks, first_does
from mmaudio.base.setting_groups import MetricsSettings
from mmaudio.base.tensor_files import read_state_dict
from mmaudio.commands.evaluation.samples import CACHE
from mmaudio.commands.evaluation.sets import EvalSet, files_by_id
from mmaudio.metrics.av_bench import check_av_bench, run_av_bench
from mmaudio.metrics.cache_files import CACHE_FILES, cache_path
from mmaudio.metrics.cached import Measured, measure
from mmaudio.metrics.judges import judges_for
from mmaudio.metrics.judges.extraction import extract_features
from mmaudio.metrics.judges.record import read_record
from mmaudio.metrics.judges.requirements import check_requirements
from mmaudio.metrics.registry import Metric
from mmaudio.metrics.sounds import GENERATED_SUFFIXES
from mmaudio.weights import locate
from mmaudio.weights.verify import read_fingerprint

if TYPE_CHECKING:
    from mmaudio.commands.evaluation.scores import Scoring

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Judged:
    """Numbers that rest on features: metric → value and so on, metric → id → number, counts, and by what weights, which results share."""

    values: Mapping[str, dict[str, Any]]
    per_clip: Mapping[str, Mapping[str, float]]
    counts: Mapping[str, Any]
    made_by: Mapping[str, Any]


def check_judges(rows: Iterable[Metric], metrics: MetricsSettings) -> None:
    """Raises: UserError for what a metric that is asked for by its name cannot do without; of a group, what is missing is told later."""
    asked = [row for row in rows if not row.is_embedded]
    if asked and metrics.engine == "av_bench":
        check_av_bench()
        return
    given = Path(metrics.reference_cache) if metrics.reference_cache else None
    if given is not None and not given.is_dir():
        raise UserError(f"metrics.reference_cache is {given}, which is not a folder")
    named_ones = [row for row in asked if row.name in metrics.names]
    judges, _ = judges_for(stem for row in named_ones for stem in row.predicted_stems)
    check_requirements(judges, metrics.places, float("inf"))


def judged(rows: Sequence[Metric], chosen: EvalSet, folder: Path, scoring: "Scoring", ranks: Ranks) -> Judged:
    """Collective. The metrics of a folder of sounds that rest on features; on every rank the same.

    Features of the generated sounds are made in `cache` in their folder, those of the real ones where the set, or the settings, have
    none; every process makes its share. A metric whose features cannot be had is null and says why.
    """
    given = scoring.metrics.reference_cache or chosen.reference_cache
    reference = [Path(given)] if given else []
    if scoring.metrics.engine == "av_bench":
        return first_does(lambda: _by_av_bench(rows, folder, reference, scoring))
    sides = _Sides(chosen, folder, [*reference, scoring.reference_cache], scoring, ranks)
    reasons = {row.name: sides.prepare(row) for row in rows}
    can = [row.name for row in rows if reasons[row.name] is None]
    nothing = Measured({}, {}, {})
    found = first_does(lambda: _measure(can, sides, scoring, chosen)) if can else nothing
    values = {row.name: found.values.get(row.name) or _null(row, str(reasons[row.name])) for row in rows}
    return Judged(values, found.per_clip, {**found.counts, "not_judged": sides.failed}, sides.made_by)


def _by_av_bench(rows: Sequence[Metric], folder: Path, reference: Sequence[Path], scoring: "Scoring") -> Judged:
    found = run_av_bench(rows, reference[0] if reference else None, folder, scoring.duration_s, scoring.device)
    return Judged(found.values, found.per_clip, found.counts, {})


def sounds_in(folder: Path, chosen: EvalSet) -> dict[str, Path]:
    """Id → generated sound, of the clips of a set that have one."""
    return files_by_id(folder, chosen.captions, GENERATED_SUFFIXES)


def _measure(names: Sequence[str], sides: "_Sides", scoring: "Scoring", chosen: EvalSet) -> Measured:
    return measure(
        names,
        sides.reference,
        sides.predicted,
        ids=list(chosen.captions),
        min_coverage=scoring.metrics.min_coverage,
        device=str(scoring.device),
        sync_weights=lambda: read_state_dict(locate("synchformer", scoring.places.get("synchformer"))),
        clean_names=scoring.metrics.clean_names,
    )


def _null(row: Metric, reason: str) -> dict[str, Any]:
    return {"value": None, "interval": None, "unit": row.unit, "better": row.better, "num": 0, "reason": reason}


class _Sides:
    """The cache files of both sides, each brought up to date once, when a metric first needs it."""

    def __init__(self, chosen: EvalSet, folder: Path, reference: Sequence[Path], scoring: "Scoring", ranks: Ranks) -> None:
        """`reference`: folders to look for features of the real sounds in; in the last one, those that none has are made."""
        self.reference, self.predicted = reference, folder / CACHE
        self._chosen, self._scoring, self._ranks = chosen, scoring, ranks
        self._sounds = sounds_in(folder, chosen)
        self._told: dict[tuple[str, str], str | None] = {}
        self.failed: dict[str, dict[str, str]] = {}  # side → id → why it has no features
        self.made_by: dict[str, Any] = {}  # judge, or cache file that was there → what tells it from another

    def prepare(self, row: Metric) -> str | None:
        """Collective. Make the features that a metric needs; why they cannot be had, or None."""
        needs = [("predicted", stem) for stem in row.predicted_stems] + [("reference", stem) for stem in row.reference_stems]
        hindered = next((reason for side, stem in needs if (reason := self._unobtainable(side, stem))), None)
        return hindered or next((reason for side, stem in needs if (reason := self._brought(side, stem))), None)

    def _unobtainable(self, side: str, stem: str) -> str | None:
        """Why a file is neither there nor can be made; nothing is made."""
        if self._is_there(side, stem) or judges_for([stem])[0]:
            return None
        where = " or ".join(str(folder) for folder in (self.reference if side == "reference" else [self.predicted]))
        return f"no {stem} features in {where}, and no judge here makes them; let av-bench make them"

    def _is_there(self, side: str, stem: str) -> bool:
        """Whether features are at hand that are not ours to make."""
        if side == "reference":
            return any(cache_path(folder, stem).is_file() for folder in self.reference[:-1])
        return not judges_for([stem])[0] and cache_path(self.predicted, stem).is_file()

    def _brought(self, side: str, stem: str) -> str | None:
        if (side, stem) not in self._told:
            is_there = self._is_there(side, stem)
            self._told[side, stem] = None if is_there else self._make(side, stem)
            if is_there:
                self._note(side, stem)
        return self._told[side, stem]

    def _note(self, side: str, stem: str) -> None:
        """Features of the reference that others made are told by their file's content; of the generated sounds, that others made them."""
        if side == "predicted":
            self.made_by[f"{side}/{stem}"] = "others"
            return
        folder = next(each for each in self.reference if cache_path(each, stem).is_file())
        self.made_by[f"{side}/{stem}"] = f"sha256:{read_fingerprint(cache_path(folder, stem)).sha256}"

    def _make(self, side: str, stem: str) -> str | None:
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
                duration_s=scoring.duration_s,
                device=scoring.device,
                batch_size=scoring.metrics.batch_size,
                places=scoring.places,
                rank=ranks.rank,
                world_size=ranks.world_size,
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
