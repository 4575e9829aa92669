"""Sound and scores while a run trains: the stages `evaluate` and `generate`."""

import logging
from contextlib import closing
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from mmaudio.base.errors import Problems, nearest
from mmaudio.batches import Batch, validation_batches
from mmaudio.distributed.collectives import on_all_ranks, on_first_rank
from mmaudio.evaluation.evaluated_model import conditions_of, sampling_of
from mmaudio.evaluation.feature_files import check_features
from mmaudio.evaluation.owned_folders import set_name
from mmaudio.evaluation.protocol import ScoringJob, check_scoring
from mmaudio.evaluation.sampling import begin_folder, sample_rows, with_reference
from mmaudio.evaluation.scoring import score_set
from mmaudio.evaluation.sets import store_set
from mmaudio.features.backend import Backend
from mmaudio.features.backend_plan import FOR_DECODING, BackendPlan, backend_keywords_of_run
from mmaudio.files.file_names import file_of, ids_by_file
from mmaudio.files.owned_files import add_ids, write_marked
from mmaudio.files.ownership import foreign
from mmaudio.generate.model import Model
from mmaudio.generate.sampler import sample_latents
from mmaudio.media.audio import write_flac
from mmaudio.media.sample_marks import is_foreign_sample, sample_mark
from mmaudio.metrics.registry import METRICS, metrics_named
from mmaudio.metrics.results import SCORES_KIND, headline, metric_values
from mmaudio.network import FlowTransformer
from mmaudio.runs.folder import PREVIEWS_FOLDER, REAL_FEATURES_FOLDER, REAL_SOUNDS_FOLDER, REPLACED_SAMPLES_FOLDER, SCORES_FILE
from mmaudio.settings.schema import TrainSettings
from mmaudio.trainer.flow_solver import FlowSolver
from mmaudio.trainer.meters import Values
from mmaudio.trainer.model_settings import model_spec
from mmaudio.trainer.solver import Solver
from mmaudio.trainer.stages import Stage
from mmaudio.trainer.trainer import Trainer

log = logging.getLogger(__name__)


def training_stages(kind: type[Solver], settings: TrainSettings) -> list[Stage]:
    """The stages that `mmaudio train` adds to a task of this kind. Nothing is loaded before they are called."""
    if not issubclass(kind, FlowSolver):
        return []
    backend = LazyBackend()
    scores: list[Stage] = [EvaluateStage(settings, backend)] if settings.metrics.names and settings.data.val else []
    return [*scores, PreviewStage(backend)]


def check_stages(kind: type[Solver], settings: TrainSettings, problems: Problems) -> None:
    """Add a sentence for every metric there is not, and for a best metric that nothing measures. Of tasks that have no sound, for none."""
    if not issubclass(kind, FlowSolver):
        return
    problems.check(lambda: check_scoring(settings))
    if settings.best_metric is None:
        return
    measured = {"valid": kind.validated(settings), **{stage.name: stage.measures for stage in training_stages(kind, settings)}}
    known = [f"{stage}/{name}" for stage, names in measured.items() for name in names]
    if settings.best_metric not in known:
        hint = nearest(settings.best_metric, known)
        problems.add(f"best_metric is {settings.best_metric!r}{hint}; this run measures {', '.join(known)} (metrics.names says which)")
    elif settings.best_metric.startswith(f"{EvaluateStage.name}/") and not (settings.eval_interval or settings.evaluate.every):
        problems.add(f"best_metric is {settings.best_metric!r}, and eval_interval is 0, so nothing is evaluated; give eval_interval=N")


def wants_test(kind: type[Solver], settings: TrainSettings) -> bool:
    """Whether a run has test data that is sounded and scored at its end."""
    has_test = settings.evaluate.test and settings.data.test and settings.metrics.names
    return bool(has_test) and issubclass(kind, FlowSolver) and not settings.only_stage()


# ---- The backend, loaded once for previews and evaluations alike


class LazyBackend:
    """Loads when it is first wanted, and tries again whenever it is wanted where it could not."""

    def __init__(self) -> None:
        self._backend: Backend | None = None

    def here(self, trainer: Trainer) -> Backend:
        """The backend on this rank; no other has to take part. Raises: UserError where it cannot be loaded."""
        if self._backend is None:
            plan = BackendPlan(trainer.settings.backend, model_spec(trainer.settings), **backend_keywords_of_run(trainer.settings))
            self._backend = Backend.load(plan, trainer.device, FOR_DECODING)
        return self._backend

    def everywhere(self, trainer: Trainer) -> Backend:
        """Collective. The backend, on every rank. Raises: UserError, on every rank, where any cannot load it."""
        return on_all_ranks(lambda: self.here(trainer))


# ---- Evaluation: held-out rows sounded and scored between steps


class EvaluateStage:
    """Sounds rows of `data.val` with the network as it is, and scores them: every process its share.

    Samples go to `<output_subdir, or val>/<finished iterations>/` where they are to be kept, else to `val-cache/` beside.
    Asked to stop, it leaves its samples or scores at the next batch, to be called anew by the run that goes on.
    """

    name = "evaluate"
    higher_is_better = frozenset(row.name for row in METRICS.values() if row.better == "higher")

    def __init__(self, settings: TrainSettings, backend: LazyBackend) -> None:
        self._backend = backend
        self.measures = tuple(row.name for row in metrics_named(settings.metrics.names, Problems()) if row.better)

    def __call__(self, trainer: Trainer, steps_done: int) -> Values:
        """Collective. Metric → value, of those that have one.

        Raises: on some ranks or all what keeps it from being done; AskedToStopError on any that was asked to stop.
        """
        settings, ranks, rows = trainer.settings, trainer.ranks, cast(FlowSolver, trainer.solver).val_rows
        assert rows is not None
        network = cast(FlowTransformer, trainer.whole_network())
        backend = self._backend.everywhere(trainer)

        def beat_or_leave() -> None:
            trainer.solver.beat(self.name, steps_done)
            trainer.stop.look()

        chosen = store_set(settings, "val", rows).first(settings.evaluate.max_rows)
        keeps = settings.save_eval_interval > 0 and steps_done % settings.save_eval_interval == 0
        parent = trainer.files.folder / self._subdir(settings)
        folder = parent / (f"{steps_done:09d}" if keeps else REPLACED_SAMPLES_FOLDER)
        of, real, made = self._set_of(trainer, folder), parent / REAL_SOUNDS_FOLDER, parent / REAL_FEATURES_FOLDER
        begin_folder(folder, {"exp_id": settings.name(), "step": steps_done}, chosen.captions, of=of, keeps=False)
        on_first_rank(lambda: check_features(settings.metrics, chosen, folder, made))
        model, num = Model(network, backend, settings.drop_conditions), len(chosen.captions)
        how = sampling_of(settings, amp=trainer.solver.amp)
        sample_rows(model, rows, how, folder, settings.eval_batch_size, ranks, of=of, max_rows=num, beat=beat_or_leave)
        real_of = self._set_of(trainer, real)
        chosen = with_reference(chosen, backend, real, settings.eval_batch_size, ranks, beat_or_leave, of=real_of)
        scoring = ScoringJob.of(settings, backend, made, beat_or_leave)
        scores = score_set(chosen, folder, scoring, ranks)
        if ranks.is_first:
            told = {**scores, "subject": {"exp_id": settings.name(), "step": steps_done}}
            write_marked(folder / SCORES_FILE, told, SCORES_KIND, settings.name())
            log.info("after %d iterations: %s", steps_done, headline(scores))
        return {**metric_values(scores)}

    @staticmethod
    def _set_of(trainer: Trainer, folder: Path) -> str:
        return set_name(trainer.settings.name(), trainer.files.folder, folder)

    def _subdir(self, settings: TrainSettings) -> str:
        """Of the only validation source, where it says one."""
        chosen = [settings.data.sources[name] for name in settings.data.val]
        return (chosen[0].output_subdir if len(chosen) == 1 else None) or "val"


# ---- Previews: a row, held-out if there are such, as the network sounds it then, and as it is

_REAL = "real"  # the folder of previews with the rows as they are
DISTANCE = "latent_distance"  # from the row's own latents, in standard deviations of theirs


class PreviewStage:
    """Writes `previews/<finished iterations>/<id>.flac`, and the row's own latents as `previews/real/<id>.flac`. Rank 0 alone does.

    What an id is as a file name, `file_name` says; where it is another than the id, `samples.json` beside it tells the id.
    A sound of that name that this program did not make for this run is not replaced.
    """

    name = "generate"
    measures = (DISTANCE,)
    higher_is_better: frozenset[str] = frozenset()

    def __init__(self, backend: LazyBackend) -> None:
        self._backend = backend

    def __call__(self, trainer: Trainer, steps_done: int) -> Values:
        """Collective. Raises: on rank 0 alone what keeps it from being done; AskedToStopError to be called anew later."""
        network = cast(FlowTransformer, trainer.whole_network())
        if not trainer.ranks.is_first:
            return {}
        backend = self._backend.here(trainer)
        trainer.stop.look()
        solver = cast(FlowSolver, trainer.solver)
        rows = solver.val_rows or solver.train_rows
        with closing(validation_batches(rows, batch_size=1, max_rows=1)) as batches:
            batch = next(batches)
        real_bnc = batch.a_mean.float()
        made_bnc = sample_latents(
            network, conditions_of(batch), sampling_of(trainer.settings, amp=trainer.solver.amp), trainer.settings.drop_conditions
        )
        trainer.stop.look()
        folder, run = trainer.files.folder, trainer.settings.name()
        for name, latent_bnc in ((_REAL, real_bnc), (f"{steps_done:09d}", made_bnc)):
            place = folder / PREVIEWS_FOLDER / name
            _write(backend, place, batch, latent_bnc, set_name(run, folder, place))
        distance = (made_bnc.cpu() - real_bnc).square().mean().sqrt() / real_bnc.std()
        return {DISTANCE: float(distance)}


def _write(backend: Backend, folder: Path, batch: Batch, latent_bnc: Tensor, of: str) -> None:
    path = file_of(folder, batch.ids[0], ".flac")
    if is_foreign_sample(path, of):
        raise foreign(path)
    if folder.name == _REAL and path.is_file():
        return
    with torch.no_grad():
        wave = backend.decode(latent_bnc)[0].cpu()
    add_ids(folder, ids_by_file(batch.ids, ".flac"))
    write_flac(path, wave.numpy(), backend.spec.rate_hz, sample_mark(of, id=batch.ids[0]))
