"""Evaluation while a run trains: held-out rows sounded and scored between steps, and the test data after the last one."""

import dataclasses
import logging
from pathlib import Path
from typing import cast

import torch

from mmaudio.base.errors import Problems, UserError, nearest
from mmaudio.base.files import write_json
from mmaudio.base.ranks import Ranks, all_do, wait_for_all
from mmaudio.base.settings import BaseSettings, EvalSettings, TrainSettings
from mmaudio.commands.evaluation.by_settings import backend_keywords, sampling_of
from mmaudio.commands.evaluation.references import with_reference
from mmaudio.commands.evaluation.samples import begin_folder, sample_rows
from mmaudio.commands.evaluation.scores import Scoring, check_scoring, headline, metric_values, score_set
from mmaudio.commands.evaluation.stores import store_set
from mmaudio.commands.evaluation.whole import Plan, evaluate, plan_evaluation
from mmaudio.features.backend import Backend
from mmaudio.features.plan import FOR_DECODING, BackendPlan
from mmaudio.generate.model import Model
from mmaudio.metrics.registry import METRICS, metrics_named
from mmaudio.network import FlowTransformer
from mmaudio.trainer.flow_solver import FlowSolver
from mmaudio.trainer.meters import Values
from mmaudio.trainer.run_settings import model_spec
from mmaudio.trainer.solver import Beat as FullBeat
from mmaudio.trainer.solver import Solver

log = logging.getLogger(__name__)
STAGE = "evaluate"
NOT_KEPT = "val-cache"  # the samples of one evaluation, which the next one replaces


class Evaluations:
    """Sounds rows of `data.val` with the network as it is, and scores them: every process its share.

    Samples go to `<output_subdir, or val>/<finished iterations>/` where they are to be kept, else to `val-cache/` beside.
    Where the backend that turns latents into sound cannot be loaded, it warns once and there is none: training goes on without.
    """

    higher_is_better = frozenset(row.name for row in METRICS.values() if row.better == "higher")

    def __init__(self) -> None:
        self._backend: Backend | None = None
        self._gave_up = False

    def __call__(self, solver: FlowSolver, steps_done: int) -> Values:
        """Collective. Metric → value, of those that can be told."""
        settings, ranks, rows = solver.settings, solver.ranks, solver.val_rows
        assert rows is not None
        network = cast(FlowTransformer, solver.whole_network())
        backend = self._loaded(solver)
        if backend is None:
            return {}

        def beat() -> None:
            solver.beat(STAGE, steps_done)

        chosen = store_set(settings, "val", rows).first(settings.evaluate.max_rows)
        keeps = settings.save_eval_interval > 0 and steps_done % settings.save_eval_interval == 0
        parent = solver.files.folder / self._subdir(settings)
        folder = parent / (f"{steps_done:09d}" if keeps else NOT_KEPT)
        begin_folder(folder, {"exp_id": settings.name(), "step": steps_done}, chosen.captions, keeps=False)
        model, how, num = Model(network, backend, settings.drop_conditions), sampling_of(settings, amp=solver.amp), len(chosen.captions)
        sample_rows(model, rows, how, folder, settings.eval_batch_size, ranks, max_rows=num, beat=beat)
        chosen = with_reference(chosen, backend, parent / "reference", settings.eval_batch_size, ranks, beat)
        scoring = Scoring.of(settings, backend, parent / "reference-cache", beat)
        scores = score_set(chosen, folder, scoring, ranks)
        if ranks.is_first:
            write_json(folder / "scores.json", {**scores, "subject": {"exp_id": settings.name(), "step": steps_done}})
            log.info("after %d iterations: %s", steps_done, headline(scores))
        return {**metric_values(scores)}

    def _subdir(self, settings: TrainSettings) -> str:
        """Of the only validation source, where it says one."""
        chosen = [settings.data.sources[name] for name in settings.data.val]
        return (chosen[0].output_subdir if len(chosen) == 1 else None) or "val"

    def _loaded(self, solver: FlowSolver) -> Backend | None:
        """Collective. The backend, on every rank or on none."""
        if self._backend is not None or self._gave_up:
            return self._backend

        def load() -> Backend:
            plan = BackendPlan(solver.settings.backend, model_spec(solver.settings), **backend_keywords(solver.settings))
            return Backend.load(plan, solver.device, FOR_DECODING)

        try:
            self._backend = all_do(load)
        except UserError as error:
            self._gave_up = True
            log.warning("training is not evaluated on the way: %s", "; ".join(error.sentences))
        return self._backend


def check_evaluations(kind: type[Solver], settings: TrainSettings, problems: Problems) -> None:
    """Add a sentence for every metric there is not, and for a best metric that nothing measures. Of tasks that have no sound, for none."""
    if not issubclass(kind, FlowSolver):
        return
    problems.check(lambda: check_scoring(settings.metrics))
    if settings.best_metric is None:
        return
    stage, _, name = settings.best_metric.partition("/")
    measured = {"valid": ("loss",), "generate": ("latent_distance",), STAGE: _measured(settings)}
    known = [f"{stage}/{name}" for stage, names in measured.items() for name in names]
    if name not in measured.get(stage, ()):
        hint = nearest(settings.best_metric, known)
        problems.add(f"best_metric is {settings.best_metric!r}{hint}; this run measures {', '.join(known)} (metrics.names says which)")
    elif stage == STAGE and not (settings.eval_interval or settings.evaluate.every):
        problems.add(f"best_metric is {settings.best_metric!r}, and eval_interval is 0, so nothing is evaluated; give eval_interval=N")


def _measured(settings: TrainSettings) -> tuple[str, ...]:
    return tuple(row.name for row in metrics_named(settings.metrics.names, Problems()))


def evaluation_of(settings: TrainSettings) -> EvalSettings:
    """The settings of evaluating a run on its test data, as it was trained."""
    shared = {field.name: getattr(settings, field.name) for field in dataclasses.fields(BaseSettings)}
    return EvalSettings(**{**shared, "weights": None, "checkpoint": None}, dataset="test", batch_size=settings.eval_batch_size)


def evaluate_test(kind: type[Solver], settings: TrainSettings, run_dir: Path, ranks: Ranks, device: torch.device, beat: FullBeat) -> None:
    """Collective. Sound and score a finished run's test data, if it has any. What hinders it is a warning: the run stands."""
    wanted = settings.evaluate.test and settings.data.test and settings.metrics.names
    if not (issubclass(kind, FlowSolver) and wanted):
        return
    try:
        plan = all_do(lambda: _test_plan(settings, run_dir))
        evaluate(plan, ranks, device, lambda: beat(STAGE, settings.num_iterations))
    except UserError as error:  # raised on every rank
        told = "; ".join(error.sentences)
        log.warning("the test data is not evaluated: %s; `python evaluate.py exp_id=%s` does it later", told, settings.name())
    wait_for_all()


def _test_plan(settings: TrainSettings, run_dir: Path) -> Plan:
    problems = Problems()
    plan = plan_evaluation(evaluation_of(settings), run_dir, problems)
    problems.raise_any()
    assert plan is not None
    return plan
