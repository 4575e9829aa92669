"""A whole evaluation, of a set or of the test data of a run: all checked before anything is loaded; then sound, then numbers."""

import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mmaudio.base.errors import EXIT_REJECTS, Problems, RejectsError, UserError, named, nearest
from mmaudio.batches import check_stores_fit
from mmaudio.batches.mixture import Mixture
from mmaudio.batches.sources import open_sources
from mmaudio.checkpoints.run_files import RunFiles
from mmaudio.distributed.collectives import barrier, first_holds, on_all_ranks, on_first_rank
from mmaudio.distributed.ranks import Ranks
from mmaudio.evaluation.evaluated_model import EvaluatedModel, name_of_run, sampling_of, weights_of
from mmaudio.evaluation.feature_files import check_features
from mmaudio.evaluation.owned_folders import check_samples_folder, set_name
from mmaudio.evaluation.protocol import Beat, ScoringJob, check_scoring
from mmaudio.evaluation.sampling import begin_folder, check_samples, sample_set, with_reference
from mmaudio.evaluation.scoring import score_set
from mmaudio.evaluation.sets import PUBLISHED, EvalSet, entry_of, read_set, sources_named, store_set
from mmaudio.features.backend import Backend
from mmaudio.files.file_names import check_plain_path
from mmaudio.files.owned_files import SAMPLES_FILE, check_marked, write_marked
from mmaudio.metrics.results import SCORES_KIND, headline, is_incomplete
from mmaudio.network import VARIANTS
from mmaudio.runs.folder import REAL_FEATURES_FOLDER, REAL_SOUNDS_FOLDER, SAMPLED_ENDING, SCORES_ENDING
from mmaudio.runs.saved_settings import is_run
from mmaudio.settings.data_sources import LONGEST_OF_A_SET
from mmaudio.settings.schema import BaseSettings, EvalSettings, TrainSettings
from mmaudio.trainer.checks import check_names
from mmaudio.trainer.model_settings import model_spec, uses_amp
from mmaudio.trainer.solver import Beat as FullBeat

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ResultPlaces:
    """Where an evaluation puts its results."""

    settings: EvalSettings
    run_dir: Path
    chosen: EvalSet

    @property
    def name(self) -> str:
        return self.chosen.name + (f"-{self.settings.output_name}" if self.settings.output_name else "")

    @property
    def samples(self) -> Path:
        """Published names: stored rows of a run go to <tag>-sampled, sets to a folder of their own name."""
        return self.run_dir / (self.name + SAMPLED_ENDING if self.chosen.rows is not None else self.name)

    def beside(self, name: str) -> Path:
        """A folder that all evaluations of the set share, whatever else they are called."""
        return self.run_dir / f"{self.chosen.name}-{name}"

    @property
    def scores(self) -> Path:
        return self.run_dir / f"{self.name}-{SCORES_ENDING}"

    def set_of(self, folder: Path) -> str:
        """What the sounds in a folder of these belong to."""
        return set_name(name_of_run(self.run_dir), self.run_dir, folder)

    def check(self) -> None:
        """Raises: UserError for all that is in the way of results and was not made by this program."""
        settings, chosen, problems = self.settings, self.chosen, Problems()
        samples, real = self.samples, self.beside(REAL_SOUNDS_FOLDER)
        advice, keeps = "give output_name=NAME for another folder", settings.keep_existing
        problems.check(lambda: check_samples_folder(samples, self.set_of(samples), chosen.captions, keeps=keeps, advice=advice))
        if settings.metrics.names and not chosen.sounds and chosen.rows is not None:
            problems.check(lambda: check_samples_folder(real, self.set_of(real), chosen.captions, keeps=True))
        if settings.metrics.names:
            problems.check(lambda: check_features(settings.metrics, chosen, samples, self.beside(REAL_FEATURES_FOLDER)))
        problems.raise_any()


@dataclass(frozen=True)
class EvaluationPlan(ResultPlaces):
    """An evaluation that can be: the set, where results go, and the model. Nothing of the model is loaded yet."""

    evaluated_model: EvaluatedModel


def plan_evaluation(settings: EvalSettings, run_dir: Path, problems: Problems) -> EvaluationPlan | None:
    """What is asked for, or a sentence in `problems` for everything that is wrong with it. May fetch a published model's weights."""
    check_names(settings, problems)
    problems.check(lambda: check_scoring(settings))
    chosen = problems.check(lambda: choose_set(settings, run_dir)) if settings.model in VARIANTS else None
    if chosen is not None and not problems.sentences:
        problems.check(ResultPlaces(settings, run_dir, chosen).check)
    weights = None if problems.sentences else problems.check(lambda: weights_of(settings, run_dir))
    if chosen is None or weights is None:
        return None
    plan = EvaluationPlan(settings, run_dir, chosen, EvaluatedModel(weights, settings))
    problems.check(lambda: check_plain_path("the name of the results", plan.name, LONGEST_OF_A_SET))
    if settings.metrics.names:
        problems.check(lambda: check_marked(plan.scores, SCORES_KIND, plan.name, "name another: output_name=NAME"))
    return plan


def choose_set(settings: EvalSettings, run_dir: Path) -> EvalSet:
    """The set that `dataset` names. Raises: UserError for one there is not, or one that cannot be read, and as `check_samples`."""
    dataset = settings.dataset or ("test" if is_run(run_dir) else "audiocaps")
    entry = entry_of(dataset, settings.eval_data)
    if entry is not None:
        chosen = read_set(dataset, entry, settings.eval_data[entry])
    else:
        names = sources_named(settings, dataset)
        if not names:
            known = (*settings.eval_data, *settings.data.sources)
            raise UserError(
                f"dataset is {dataset!r}{nearest(dataset, known)}, which is no set of eval_data, none that begins with"
                f" {', '.join(PUBLISHED)}, and no list or store of the run's data with anything in it;"
                " give eval_data.NAME.tsv=TABLE and dataset=NAME, or train the run with 'data.test=[NAME]'"
            )
        chosen = store_set(settings, dataset, open_rows(settings, names))
    chosen = chosen.first(settings.max_rows)
    check_samples(chosen.captions)
    return chosen.with_sounds(Path(settings.reference)) if settings.reference else chosen


def open_rows(settings: EvalSettings, names: list[str]) -> Mixture:
    """The stores of these sources, which fit the model. Raises: UserError for those that do not."""
    problems, spec = Problems(), model_spec(settings)
    sources = open_sources(settings, names, problems)
    check_stores_fit(problems, sources, spec, model=settings.model, backend=settings.backend)
    problems.raise_any()
    return Mixture(sources, spec)


def evaluate(plan: EvaluationPlan, ranks: Ranks, device: torch.device, beat: Beat = lambda: None) -> int:
    """Collective. Sample the set, score it, and write the scores; returns the exit code.

    Raises: UserError for weights that cannot be loaded, for sounds too few to score, and where another job writes the same results.
    """
    samples, scores = plan.samples, plan.scores
    with first_holds(samples / SAMPLES_FILE, f"samples in {samples}"), first_holds(scores, f"the scores {scores}"):
        return _evaluate(plan, ranks, device, beat)


def _evaluate(plan: EvaluationPlan, ranks: Ranks, device: torch.device, beat: Beat) -> int:
    settings, chosen, samples = plan.settings, plan.chosen, plan.samples
    of = plan.set_of(samples)
    model = on_all_ranks(lambda: plan.evaluated_model.load(device, from_store=chosen.rows is not None, with_video=bool(chosen.videos)))
    how = sampling_of(settings, amp=uses_amp(settings, device))
    facts = on_first_rank(lambda: plan.evaluated_model.facts(model, how))
    made_by = {name: fact for name, fact in facts.items() if name != "weights"}  # the file may be moved: its hash says which it is
    begin_folder(samples, made_by, chosen.captions, of=of, keeps=settings.keep_existing)
    sampled = sample_set(model, chosen, how, samples, settings.batch_size, ranks, of=of, made_by=made_by, beat=beat)
    failed = {**chosen.left_out, **sampled}
    log.info("%d samples in %s", len(chosen.captions) - len(failed.keys() & chosen.captions.keys()), samples)
    if failed:
        log.warning("%d clips without a sample, %s: %s", len(failed), named(sorted(failed)), next(iter(failed.values())))
    scores = _score(plan, model.backend, facts, failed, ranks, beat)
    barrier()
    incomplete = bool(failed) or (scores is not None and is_incomplete(scores, plan.settings.metrics.names))
    return EXIT_REJECTS if incomplete else 0


def _score(
    plan: EvaluationPlan, backend: Backend, facts: dict[str, Any], failed: dict[str, str], ranks: Ranks, beat: Beat
) -> dict[str, Any] | None:
    settings = plan.settings
    if not settings.metrics.names:
        return None
    real = plan.beside(REAL_SOUNDS_FOLDER)
    chosen = with_reference(plan.chosen, backend, real, settings.batch_size, ranks, beat, of=plan.set_of(real))
    scoring = ScoringJob.of(settings, backend, plan.beside(REAL_FEATURES_FOLDER), beat)
    scores = {**score_set(chosen, plan.samples, scoring, ranks), "subject": facts, "not_sampled": failed, "absent": list(chosen.absent)}
    if ranks.is_first:
        write_marked(plan.scores, scores, SCORES_KIND, plan.name)
        log.info("%s; all scores in %s", headline(scores), plan.scores)
    return scores


# ---- The test data of a run that has just been trained


def evaluate_test(settings: TrainSettings, run_dir: Path, ranks: Ranks, device: torch.device, beat: FullBeat) -> None:
    """Collective. Sound and score a finished run's test data.

    Raises: what keeps it from being done, on some ranks or all; RejectsError where some clips or metrics are left out.
    """
    plan = on_all_ranks(lambda: _test_plan(settings, run_dir))
    if evaluate(plan, ranks, device, lambda: beat("evaluate", settings.num_iterations)):
        raise RejectsError(f"some clips or metrics are left out, and {plan.scores} says why")


def _test_plan(settings: TrainSettings, run_dir: Path) -> EvaluationPlan:
    problems, files, asked = Problems(), RunFiles(run_dir, settings.name()), evaluation_of(settings)
    if not files.ema_final.is_file() and files.weights_last.is_file():  # a run without averages
        asked = dataclasses.replace(asked, weights=str(files.weights_last))
    plan = plan_evaluation(asked, run_dir, problems)
    problems.raise_any()
    assert plan is not None
    return plan


def evaluation_of(settings: TrainSettings) -> EvalSettings:
    """The settings of evaluating a run on its test data, as it was trained."""
    shared = {field.name: getattr(settings, field.name) for field in dataclasses.fields(BaseSettings)}
    return EvalSettings(**{**shared, "weights": None, "checkpoint": None}, dataset="test", batch_size=settings.eval_batch_size)
