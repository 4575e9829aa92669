"""What turns the latents of a run into sound while it trains: loaded once, for previews and evaluations alike."""

import logging

from mmaudio.base.errors import UserError
from mmaudio.base.ranks import all_do
from mmaudio.commands.evaluation.by_settings import backend_keywords
from mmaudio.features.backend import Backend
from mmaudio.features.plan import FOR_DECODING, BackendPlan
from mmaudio.trainer.run_settings import model_spec
from mmaudio.trainer.solver import Solver

log = logging.getLogger(__name__)


class RunBackend:
    """Loads when it is first wanted. Where it cannot, it warns once and there is none: training goes on without sound."""

    def __init__(self) -> None:
        self._backend: Backend | None = None
        self._hindrance: UserError | None = None
        self._is_told = False

    def here(self, solver: Solver) -> Backend | None:
        """The backend on this rank; no other has to take part."""
        try:
            return self._loaded(solver)
        except UserError as error:
            self._tell(error)
            return None

    def everywhere(self, solver: Solver) -> Backend | None:
        """Collective. The backend, on every rank or on none; rank 0 keeps its own for `here`."""
        try:
            return all_do(lambda: self._loaded(solver))
        except UserError as error:
            self._tell(error)
            if not solver.ranks.is_first:
                self._backend, self._hindrance = None, error
            return None

    def _loaded(self, solver: Solver) -> Backend:
        """Raises: UserError where it cannot be loaded, and from then on."""
        if self._hindrance is not None:
            raise self._hindrance
        if self._backend is None:
            plan = BackendPlan(solver.settings.backend, model_spec(solver.settings), **backend_keywords(solver.settings))
            try:
                self._backend = Backend.load(plan, solver.device, FOR_DECODING)
            except UserError as error:
                self._hindrance = error
                raise
        return self._backend

    def _tell(self, error: UserError) -> None:
        if not self._is_told:
            log.warning("training goes on without previews and evaluations: %s", "; ".join(error.sentences))
        self._is_told = True
