"""What turns the latents of a run into sound while it trains: loaded once, for previews and evaluations alike."""

from mmaudio.base.ranks import all_do
from mmaudio.commands.evaluation.by_settings import backend_keywords
from mmaudio.features.backend import Backend
from mmaudio.features.plan import FOR_DECODING, BackendPlan
from mmaudio.trainer.run_settings import model_spec
from mmaudio.trainer.solver import Solver


class RunBackend:
    """Loads when it is first wanted, and tries again whenever it is wanted where it could not."""

    def __init__(self) -> None:
        self._backend: Backend | None = None

    def here(self, solver: Solver) -> Backend:
        """The backend on this rank; no other has to take part. Raises: UserError where it cannot be loaded."""
        if self._backend is None:
            plan = BackendPlan(solver.settings.backend, model_spec(solver.settings), **backend_keywords(solver.settings))
            self._backend = Backend.load(plan, solver.device, FOR_DECODING)
        return self._backend

    def everywhere(self, solver: Solver) -> Backend:
        """Collective. The backend, on every rank. Raises: UserError, on every rank, where any cannot load it."""
        return all_do(lambda: self.here(solver))
