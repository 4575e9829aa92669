"""What training lets a person hear of itself: a row, held-out if there are such, as the network sounds it then, and as it is."""

from contextlib import closing
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from mmaudio.base.file_names import file_of, ids_by_file
from mmaudio.base.samples_file import add_ids
from mmaudio.batches import Batch, validation_batches
from mmaudio.commands.evaluation.by_settings import conditions_of, sampling_of
from mmaudio.commands.run_backend import RunBackend
from mmaudio.features.backend import Backend
from mmaudio.generate.sampler import sample_latents
from mmaudio.media.audio import write_flac
from mmaudio.network import FlowTransformer
from mmaudio.runs.names import PREVIEWS_FOLDER
from mmaudio.trainer.flow_solver import FlowSolver
from mmaudio.trainer.meters import Values

DISTANCE = "latent_distance"  # from the row's own latents, in standard deviations of theirs


class Previews:
    """Writes `previews/<finished iterations>/<id>.flac`, and the row's own latents as `previews/real/<id>.flac`. Rank 0 alone does.

    What an id is as a file name, `file_name` says; where it is another than the id, `samples.json` beside it tells the id.
    """

    name = "generate"
    measures = (DISTANCE,)
    higher_is_better: frozenset[str] = frozenset()

    def __init__(self, backend: RunBackend) -> None:
        self._backend = backend

    def __call__(self, solver: FlowSolver, steps_done: int) -> Values:
        """Collective. Raises: on rank 0 alone what keeps it from being done; AskedToStopError to be called anew later."""
        network = cast(FlowTransformer, solver.whole_network())
        if not solver.ranks.is_first:
            return {}
        backend = self._backend.here(solver)
        solver.stop.look()
        rows = solver.val_rows or solver.train_rows
        with closing(validation_batches(rows, batch_size=1, max_rows=1)) as batches:
            batch = next(batches)
        real_bnc = batch.a_mean.float()
        made_bnc = sample_latents(
            network, conditions_of(batch), sampling_of(solver.settings, amp=solver.amp), solver.settings.drop_conditions
        )
        solver.stop.look()
        folder = solver.files.folder / PREVIEWS_FOLDER
        _write(backend, folder / "real", batch, real_bnc)
        _write(backend, folder / f"{steps_done:09d}", batch, made_bnc)
        distance = (made_bnc.cpu() - real_bnc).square().mean().sqrt() / real_bnc.std()
        return {DISTANCE: float(distance)}


def _write(backend: Backend, folder: Path, batch: Batch, latent_bnc: Tensor) -> None:
    path = file_of(folder, batch.ids[0], ".flac")
    if folder.name == "real" and path.is_file():
        return
    with torch.no_grad():
        wave = backend.decode(latent_bnc)[0].cpu()
    add_ids(folder, ids_by_file(batch.ids, ".flac"))
    write_flac(path, wave.numpy(), backend.spec.rate_hz)
