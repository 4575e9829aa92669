"""What training can do besides, and needs nothing of: sound to listen to, and scores."""

from mmaudio.base.errors import Problems, nearest
from mmaudio.base.settings import TrainSettings
from mmaudio.commands.evaluation.scoring import check_scoring
from mmaudio.commands.evaluation.stage import Evaluations
from mmaudio.commands.previews import Previews
from mmaudio.commands.run_backend import RunBackend
from mmaudio.trainer.flow_solver import FlowSolver
from mmaudio.trainer.solver import Solver
from mmaudio.trainer.stage import Stage


def added_stages(kind: type[Solver], settings: TrainSettings) -> list[Stage]:
    """The stages that train.py adds to a task of this kind. Nothing is loaded before they are called."""
    if not issubclass(kind, FlowSolver):
        return []
    backend = RunBackend()
    scores: list[Stage] = [Evaluations(settings, backend)] if settings.metrics.names and settings.data.val else []
    return [*scores, Previews(backend)]


def check_stages(kind: type[Solver], settings: TrainSettings, problems: Problems) -> None:
    """Add a sentence for every metric there is not, and for a best metric that nothing measures. Of tasks that have no sound, for none."""
    if not issubclass(kind, FlowSolver):
        return
    problems.check(lambda: check_scoring(settings))
    if settings.best_metric is None:
        return
    measured = {"valid": kind.validated(settings), **{stage.name: stage.measures for stage in added_stages(kind, settings)}}
    known = [f"{stage}/{name}" for stage, names in measured.items() for name in names]
    if settings.best_metric not in known:
        hint = nearest(settings.best_metric, known)
        problems.add(f"best_metric is {settings.best_metric!r}{hint}; this run measures {', '.join(known)} (metrics.names says which)")
    elif settings.best_metric.startswith(f"{Evaluations.name}/") and not (settings.eval_interval or settings.evaluate.every):
        problems.add(f"best_metric is {settings.best_metric!r}, and eval_interval is 0, so nothing is evaluated; give eval_interval=N")
