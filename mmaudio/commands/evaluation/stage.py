"""Evaluation while a run trains: held-out rows sounded and scored between steps, and the test data after the last one."""

import dataclasses
import logging
from pathlib import Path
from typing import cast

import torch

from mmaudio.base.errors import Problems, RejectsError
from mmaudio.base.marked_files import write_marked
from mmaudio.base.ranks import Ranks, all_do
from mmaudio.base.settings import BaseSettings, EvalSettings, TrainSettings
from mmaudio.checkpoints.run_state import RunFiles
from mmaudio.commands.evaluation.by_settings import sampling_of
from mmaudio.commands.evaluation.references import with_reference
from mmaudio.commands.evaluation.samples import begin_folder, sample_rows
from mmaudio.commands.evaluation.scores import score_set
from mmaudio.commands.evaluation.scoring import Scoring
from mmaudio.commands.evaluation.stores import store_set
from mmaudio.commands.evaluation.whole import Plan, evaluate, plan_evaluation
from mmaudio.commands.run_backend import RunBackend
from mmaudio.generate.model import Model
from mmaudio.metrics.registry import METRICS, metrics_named
from mmaudio.metrics.result import SCORES_KIND, headline, metric_values
from mmaudio.network import FlowTransformer
from mmaudio.runs.names import REAL_FEATURES_FOLDER, REAL_SOUNDS_FOLDER, REPLACED_SAMPLES_FOLDER, SCORES_FILE
from mmaudio.trainer.flow_solver import FlowSolver
from mmaudio.trainer.meters import Values
from mmaudio.trainer.solver import Beat as FullBeat
from mmaudio.trainer.solver import Solver

log = logging.getLogger(__name__)


class Evaluations:
    """Sounds rows of `data.val` with the network as it is, and scores them: every process its share.

    Samples go to `<output_subdir, or val>/<finished iterations>/` where they are to be kept, else to `val-cache/` beside.
    Asked to stop, it leaves its samples or scores at the next batch, to be called anew by the run that goes on.
    """

    name = "evaluate"
    higher_is_better = frozenset(row.name for row in METRICS.values() if row.better == "higher")

    def __init__(self, settings: TrainSettings, backend: RunBackend) -> None:
        self._backend = backend
        self.measures = tuple(row.name for row in metrics_named(settings.metrics.names, Problems()) if row.better)

    def __call__(self, solver: FlowSolver, steps_done: int) -> Values:
        """Collective. Metric → value, of those that can be told.

        Raises: on some ranks or all what keeps it from being done; AskedToStopError on any that was asked to stop.
        """
        settings, ranks, rows = solver.settings, solver.ranks, solver.val_rows
        assert rows is not None
        network = cast(FlowTransformer, solver.whole_network())
        backend = self._backend.everywhere(solver)

        def beat_or_leave() -> None:
            solver.beat(self.name, steps_done)
            solver.stop.look()

        chosen = store_set(settings, "val", rows).first(settings.evaluate.max_rows)
        keeps = settings.save_eval_interval > 0 and steps_done % settings.save_eval_interval == 0
        parent = solver.files.folder / self._subdir(settings)
        folder = parent / (f"{steps_done:09d}" if keeps else REPLACED_SAMPLES_FOLDER)
        begin_folder(folder, {"exp_id": settings.name(), "step": steps_done}, chosen.captions, keeps=False)
        model, how, num = Model(network, backend, settings.drop_conditions), sampling_of(settings, amp=solver.amp), len(chosen.captions)
        sample_rows(model, rows, how, folder, settings.eval_batch_size, ranks, max_rows=num, beat=beat_or_leave)
        chosen = with_reference(chosen, backend, parent / REAL_SOUNDS_FOLDER, settings.eval_batch_size, ranks, beat_or_leave)
        scoring = Scoring.of(settings, backend, parent / REAL_FEATURES_FOLDER, beat_or_leave)
        scores = score_set(chosen, folder, scoring, ranks)
        if ranks.is_first:
            told = {**scores, "subject": {"exp_id": settings.name(), "step": steps_done}}
            write_marked(folder / SCORES_FILE, told, SCORES_KIND, settings.name())
            log.info("after %d iterations: %s", steps_done, headline(scores))
        return {**metric_values(scores)}

    def _subdir(self, settings: TrainSettings) -> str:
        """Of the only validation source, where it says one."""
        chosen = [settings.data.sources[name] for name in settings.data.val]
        return (chosen[0].output_subdir if len(chosen) == 1 else None) or "val"


def evaluation_of(settings: TrainSettings) -> EvalSettings:
    """The settings of evaluating a run on its test data, as it was trained."""
    shared = {field.name: getattr(settings, field.name) for field in dataclasses.fields(BaseSettings)}
    return EvalSettings(**{**shared, "weights": None, "checkpoint": None}, dataset="test", batch_size=settings.eval_batch_size)


def wants_test(kind: type[Solver], settings: TrainSettings) -> bool:
    """Whether a run has test data that is sounded and scored at its end."""
    has_test = settings.evaluate.test and settings.data.test and settings.metrics.names
    return bool(has_test) and issubclass(kind, FlowSolver) and not settings.only_stage()


def evaluate_test(settings: TrainSettings, run_dir: Path, ranks: Ranks, device: torch.device, beat: FullBeat) -> None:
    """Collective. Sound and score a finished run's test data.

    Raises: what keeps it from being done, on some ranks or all; RejectsError where some clips or metrics are left out.
    """
    plan = all_do(lambda: _test_plan(settings, run_dir))
    if evaluate(plan, ranks, device, lambda: beat(Evaluations.name, settings.num_iterations)):
        raise RejectsError(f"some clips or metrics are left out, and {plan.scores} says why")


def _test_plan(settings: TrainSettings, run_dir: Path) -> Plan:
    problems, files, asked = Problems(), RunFiles(run_dir, settings.name()), evaluation_of(settings)
    if not files.ema_final.is_file() and files.weights_last.is_file():  # a run without averages
        asked = dataclasses.replace(asked, weights=str(files.weights_last))
    plan = plan_evaluation(asked, run_dir, problems)
    problems.raise_any()
    assert plan is not None
    return plan
