"""A whole evaluation: what is asked for, checked before anything is loaded; then sound, then numbers."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mmaudio.base.errors import EXIT_REJECTS, Problems, UserError, nearest
from mmaudio.base.file_names import check_plain_path
from mmaudio.base.marked_files import check_marked, write_marked
from mmaudio.base.naming import named
from mmaudio.base.ranks import Ranks, all_do, first_does, wait_for_all
from mmaudio.base.settings import EvalSettings
from mmaudio.base.sources import LONGEST_OF_A_SET
from mmaudio.batches import check_sources
from mmaudio.batches.mixture import Mixture
from mmaudio.commands.evaluation.by_settings import sampling_of
from mmaudio.commands.evaluation.references import with_reference
from mmaudio.commands.evaluation.samples import begin_folder, check_samples, sample_set
from mmaudio.commands.evaluation.scores import score_set
from mmaudio.commands.evaluation.scoring import Beat, Scoring, check_scoring
from mmaudio.commands.evaluation.sets import PUBLISHED, EvalSet, entry_of, read_set
from mmaudio.commands.evaluation.stores import sources_named, store_set
from mmaudio.commands.evaluation.subject import Subject, is_run, weights_of
from mmaudio.features.backend import Backend
from mmaudio.metrics.result import SCORES_KIND, headline, is_incomplete
from mmaudio.network import VARIANTS
from mmaudio.runs.names import REAL_FEATURES_FOLDER, REAL_SOUNDS_FOLDER, SAMPLED_ENDING, SCORES_ENDING
from mmaudio.trainer.checks import check_names
from mmaudio.trainer.precision import uses_amp
from mmaudio.trainer.run_settings import model_spec
from mmaudio.trainer.sources import open_sources

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """An evaluation that can be: the model, the set, and where results go. Nothing of the model is loaded yet."""

    settings: EvalSettings
    run_dir: Path
    subject: Subject
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


def plan_evaluation(settings: EvalSettings, run_dir: Path, problems: Problems) -> Plan | None:
    """What is asked for, or a sentence in `problems` for everything that is wrong with it. May fetch a published model's weights."""
    check_names(settings, problems)
    problems.check(lambda: check_scoring(settings))
    chosen = problems.check(lambda: choose_set(settings, run_dir)) if settings.model in VARIANTS else None
    weights = None if problems.sentences else problems.check(lambda: weights_of(settings, run_dir))
    if chosen is None or weights is None:
        return None
    plan = Plan(settings, run_dir, Subject(weights, settings), chosen)
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
    check_sources(problems, sources, spec, model=settings.model, backend=settings.backend)
    problems.raise_any()
    return Mixture(sources, spec)


def evaluate(plan: Plan, ranks: Ranks, device: torch.device, beat: Beat = lambda: None) -> int:
    """Collective. Sample the set, score it, and write the scores; returns the exit code.

    Raises: UserError for weights that cannot be loaded, and for sounds too few to score.
    """
    settings, chosen = plan.settings, plan.chosen
    model = all_do(lambda: plan.subject.load(device, from_store=chosen.rows is not None, with_video=bool(chosen.videos)))
    how = sampling_of(settings, amp=uses_amp(settings, device))
    facts = first_does(lambda: plan.subject.facts(model, how))
    made_by = {name: fact for name, fact in facts.items() if name != "weights"}  # the file may be moved: its hash says which it is
    begin_folder(plan.samples, made_by, chosen.captions, keeps=settings.keep_existing)
    sampled = sample_set(model, chosen, how, plan.samples, settings.batch_size, ranks, made_by=made_by, beat=beat)
    failed = {**chosen.left_out, **sampled}
    log.info("%d samples in %s", len(chosen.captions) - len(failed.keys() & chosen.captions.keys()), plan.samples)
    if failed:
        log.warning("%d clips without a sample, %s: %s", len(failed), named(sorted(failed)), next(iter(failed.values())))
    scores = _score(plan, model.backend, facts, failed, ranks, beat)
    wait_for_all()
    incomplete = bool(failed) or (scores is not None and is_incomplete(scores, plan.settings.metrics.names))
    return EXIT_REJECTS if incomplete else 0


def _score(plan: Plan, backend: Backend, facts: dict[str, Any], failed: dict[str, str], ranks: Ranks, beat: Beat) -> dict[str, Any] | None:
    settings = plan.settings
    if not settings.metrics.names:
        return None
    chosen = with_reference(plan.chosen, backend, plan.beside(REAL_SOUNDS_FOLDER), settings.batch_size, ranks, beat)
    scoring = Scoring.of(settings, backend, plan.beside(REAL_FEATURES_FOLDER), beat)
    scores = {**score_set(chosen, plan.samples, scoring, ranks), "subject": facts, "not_sampled": failed, "absent": list(chosen.absent)}
    if ranks.is_first:
        write_marked(plan.scores, scores, SCORES_KIND, plan.name)
        log.info("%s; all scores in %s", headline(scores), plan.scores)
    return scores
