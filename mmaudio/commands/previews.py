"""What training lets a person hear of itself: a row, held-out if there are such, as the network sounds it then, and as it is."""

import logging
from contextlib import closing
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from mmaudio.base.errors import UserError
from mmaudio.batches import Batch, validation_batches
from mmaudio.commands.evaluation.by_settings import backend_keywords, conditions_of, sampling_of
from mmaudio.features.backend import Backend
from mmaudio.features.plan import FOR_DECODING, BackendPlan
from mmaudio.generate.sampler import sample_latents
from mmaudio.media.audio import write_flac
from mmaudio.network import FlowTransformer
from mmaudio.trainer.flow_solver import FlowSolver
from mmaudio.trainer.meters import Values
from mmaudio.trainer.run_settings import model_spec

log = logging.getLogger(__name__)


class Previews:
    """Writes `previews/<finished iterations>/<id>.flac`, and the row's own latents as `previews/real/<id>.flac`. Rank 0 alone does.

    Where the backend that turns latents into sound cannot be loaded, it warns once and there are none: training goes on without.
    """

    def __init__(self) -> None:
        self._backend: Backend | None = None
        self._gave_up = False

    def __call__(self, solver: FlowSolver, steps_done: int) -> Values:
        """Collective."""
        network = cast(FlowTransformer, solver.whole_network())
        if not solver.ranks.is_first or not self._can_sound(solver):
            return {}
        rows = solver.val_rows or solver.train_rows
        with closing(validation_batches(rows, batch_size=1, max_rows=1)) as batches:
            batch = next(batches)
        real_bnc = batch.a_mean.float()
        made_bnc = sample_latents(
            network, conditions_of(batch), sampling_of(solver.settings, amp=solver.amp), solver.settings.drop_conditions
        )
        folder = solver.files.folder / "previews"
        self._write(folder / "real", batch, real_bnc)
        self._write(folder / f"{steps_done:09d}", batch, made_bnc)
        distance = (made_bnc.cpu() - real_bnc).square().mean().sqrt() / real_bnc.std()
        return {"latent_distance": float(distance)}

    def _can_sound(self, solver: FlowSolver) -> bool:
        if self._backend is None and not self._gave_up:
            try:
                plan = BackendPlan(solver.settings.backend, model_spec(solver.settings), **backend_keywords(solver.settings))
                self._backend = Backend.load(plan, solver.device, FOR_DECODING)
            except UserError as error:
                self._gave_up = True
                log.warning("no previews: %s", "; ".join(error.sentences))
        return self._backend is not None

    def _write(self, folder: Path, batch: Batch, latent_bnc: Tensor) -> None:
        assert self._backend is not None
        path = folder / f"{batch.ids[0]}.flac"
        if folder.name == "real" and path.is_file():
            return
        with torch.no_grad():
            wave = self._backend.decode(latent_bnc)[0].cpu()
        write_flac(path, wave.numpy(), self._backend.spec.rate_hz)
