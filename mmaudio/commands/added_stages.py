"""What training can do besides, and needs nothing of: sound to listen to, and scores."""

from collections.abc import Callable, Mapping

from mmaudio.base.settings import TrainSettings
from mmaudio.commands.evaluation.stage import Evaluations
from mmaudio.commands.previews import Previews
from mmaudio.trainer.flow_solver import FlowSolver
from mmaudio.trainer.meters import Values
from mmaudio.trainer.solver import Solver


def added_stages(kind: type[Solver], settings: TrainSettings) -> Mapping[str, Callable[[FlowSolver, int], Values]]:
    """The stages that train.py adds to a task of this kind."""
    if not issubclass(kind, FlowSolver):
        return {}
    scores = {"evaluate": Evaluations()} if settings.metrics.names and settings.data.val else {}
    return {**scores, "generate": Previews()}
