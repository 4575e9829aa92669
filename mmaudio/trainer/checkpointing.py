"""What a run leaves on disk while it trains: weights, checkpoints, the best weights, and snapshots of its averages."""

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from mmaudio.base.errors import UserError
from mmaudio.checkpoints.ema_snapshots import list_snapshots, save_snapshots, synthesize, thin_snapshots
from mmaudio.checkpoints.load import read_record
from mmaudio.checkpoints.run_files import RunFiles, WeightsRecord
from mmaudio.checkpoints.save import BackgroundWriter, HostCopies, save_checkpoint, save_file, save_weights
from mmaudio.distributed.collectives import broadcast_from_first
from mmaudio.files.atomic import sweep_below
from mmaudio.trainer.model_settings import ema_constants, ema_folder
from mmaudio.trainer.parallel import full_tensor
from mmaudio.trainer.solver import Solver
from mmaudio.trainer.stages import Every
from mmaudio.trainer.train_state import TrainState

log = logging.getLogger(__name__)
_NEVER = -1  # no count of iterations: what is on disk is saved again at the end


class Checkpointer:
    """Saves a run. Rank 0 writes, in the background, from copies; of a shared network all ranks take part in copying.

    A context, at whose beginning the half written files of killed processes are removed, and at whose end everything is on disk.
    """

    def __init__(self, solver: Solver, state: TrainState, files: RunFiles) -> None:
        """Collective."""
        settings = solver.settings
        self.solver, self.settings, self.state, self.files = solver, settings, state, files
        self._intervals = {"weights": Every(settings.save_weights_interval), "checkpoint": Every(settings.save_checkpoint_interval)}
        self._copies = Every(also=settings.save_copy_iterations)
        weights_at = broadcast_from_first(_step_of(self.files.weights_last))  # after a kill it may be older than the checkpoint
        self._saved = {"weights": weights_at, "checkpoint": self.state.steps_done if not self.state.unfinished.names else _NEVER}
        self._writer, self._host = BackgroundWriter(), HostCopies()

    def __enter__(self) -> "Checkpointer":
        if self.solver.ranks.is_first:
            for folder in (self.files.folder, ema_folder(self.settings, self.files)):
                sweep_below(folder)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._writer.wait()

    # ---- when

    def is_due(self, steps_done: int) -> bool:
        """Whether anything is to be saved after these iterations. Raises: what a save in the background raised since."""
        self._writer.look()
        due = [every.due(steps_done) for every in (*self._intervals.values(), self._copies)]
        return any(due) or self._is_snapshot_due(steps_done)

    def _is_snapshot_due(self, steps_done: int) -> bool:
        ema = self.settings.ema
        new_updates = steps_done - max(self.state.steps_done, ema.start)
        return ema.enable and new_updates > 0 and (self.state.updates_done + new_updates) % ema.checkpoint_every == 0

    def save_due(self, steps_done: int) -> None:
        """Collective. Save what is due."""
        if self._is_snapshot_due(steps_done):
            self._save_snapshot()
        for kind, every in self._intervals.items():
            if every.due(steps_done):
                self._save(kind, steps_done, copy=False)
        if self._copies.due(steps_done):
            for kind in self._intervals:
                self._save(kind, steps_done, copy=True)

    def save_rest(self, steps_done: int) -> None:
        """Collective. Save what is not saved yet of these iterations."""
        for kind in ("checkpoint", "weights"):  # first what the run goes on from: who asked it to stop may not wait for long
            if self._saved[kind] != steps_done:
                self._save(kind, steps_done, copy=False)

    def save_best(self, steps_done: int) -> None:
        """Collective. Keep these weights as the best ones."""
        self._write(dict(self.state.network.state_dict()), partial(save_file, self.files.weights_best), self._record(steps_done))

    # ---- what

    def _record(self, steps_done: int) -> WeightsRecord:
        return self.solver.record(steps_done)

    def _save(self, kind: str, steps_done: int, *, copy: bool) -> None:
        if kind == "weights":
            save = partial(save_weights, self.files, copy=copy)
            self._write(dict(self.state.network.state_dict()), save, self._record(steps_done))
        else:
            self.state.schedule.set_lr_(self.state.optimizer, steps_done)  # the next step's, as in the published files
            keeps = self.settings.keep_checkpoints
            save = partial(save_checkpoint, self.files, copy=copy, keep=keeps, never_remove=self.settings.save_copy_iterations)
            self._write(self.state.to_save(steps_done), save, self._record(steps_done))
        if not copy:
            self._saved[kind] = steps_done

    def _write(self, live: Any, save: Callable[..., Any], *details: Any) -> None:
        """Collective where tensors are shared. Copy what is live, and have `save(copy, *details)` write it."""
        copied = self._host.copy(live, full_tensor, keeps=self.solver.ranks.is_first)
        if self.solver.ranks.is_first:
            self._writer.submit(partial(save, copied, *details))

    def _save_snapshot(self) -> None:
        if self.state.ema is None:
            return
        folder, max_gb, n = ema_folder(self.settings, self.files), self.settings.ema.max_snapshots_gb, self.state.ema.updates_done
        self._write(self.state.ema.averages, partial(_save_averages, folder, max_gb), n)

    def save_averages(self, steps_done: int) -> None:
        """Collective. Write the averaged weights, from a snapshot of this very step; returns when they stand."""
        ema = self.state.ema
        if ema is None or not ema.has_begun:
            return
        folder, sigma = ema_folder(self.settings, self.files), self.settings.ema.default_output_sigma
        self._writer.wait()
        stands = any(snapshot.n == ema.updates_done for snapshot in list_snapshots(folder))
        if not (broadcast_from_first(stands) if self.state.is_shared else stands):
            self._save_snapshot()
            self._writer.wait()
        if self.solver.ranks.is_first:
            weights = synthesize(folder, self.settings.ema.sigma_rels, sigma, constants=ema_constants(self.settings))
            save_file(self.files.ema_final, weights, self._record(steps_done))
            log.info("averaged weights (sigma %g) are in %s", sigma, self.files.ema_final)


def _step_of(weights: Path) -> int:
    """Finished iterations of a weights file; 0 where nothing says so."""
    try:
        record = read_record(weights) if weights.is_file() else None
    except UserError:
        return 0
    return record.step if record else 0


def _save_averages(folder: Path, max_gb: float, averages: list[dict[str, Any]], n: int) -> None:
    """Store all averages after n updates, and keep all that are stored within their disk budget."""
    save_snapshots(folder, averages, n)
    thin_snapshots(folder, max_gb)
