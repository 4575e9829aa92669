"""What a run leaves on disk while it trains: weights, checkpoints, and snapshots of its averages."""

import logging

from mmaudio.base.settings import TrainSettings
from mmaudio.checkpoints.run_state import RunFiles, RunState, WeightsRecord
from mmaudio.checkpoints.save import save_checkpoint, save_file, save_weights
from mmaudio.checkpoints.snapshots import list_snapshots, synthesize
from mmaudio.checkpoints.thinning import thin_snapshots
from mmaudio.trainer.descent import set_rate_
from mmaudio.trainer.ema import PowerAverages
from mmaudio.trainer.flow_run import FlowRun
from mmaudio.trainer.run_settings import ema_constants, ema_folder, weights_record

log = logging.getLogger(__name__)


def take_snapshot(settings: TrainSettings, files: RunFiles, ema: PowerAverages) -> None:
    """Store the averages as they are, and keep all that are stored within their disk budget."""
    ema.snapshot(ema_folder(settings, files))
    thin_snapshots(ema_folder(settings, files), settings.ema.max_snapshots_gb)


class RunKeeper:
    """Saves a run; on rank 0 only, and elsewhere does nothing."""

    def __init__(self, settings: TrainSettings, files: RunFiles, run: FlowRun, *, writes: bool) -> None:
        self.settings, self.files, self.run, self.writes = settings, files, run, writes

    def _record(self, steps_done: int) -> WeightsRecord:
        return weights_record(self.settings, steps_done)

    def state(self, steps_done: int) -> RunState:
        """Everything training needs to go on: the live tensors, not copies."""
        run = self.run
        set_rate_(run.optimizer, run.schedule.learning_rate(steps_done))  # the next step's, as in the published files
        return RunState(
            steps_done,
            run.network.state_dict(),
            run.optimizer.state_dict(),
            run.schedule.published_state(steps_done),
            run.ema.state_dict() if run.ema else None,
        )

    def save_weights(self, steps_done: int, copy: bool) -> None:
        """Write the network's present weights."""
        if self.writes:
            save_weights(self.files, self.run.network.state_dict(), self._record(steps_done), copy=copy)

    def save_checkpoint(self, steps_done: int, copy: bool) -> None:
        """Write a training checkpoint."""
        if self.writes:
            path = save_checkpoint(self.files, self.state(steps_done), self._record(steps_done), copy=copy)
            log.info("saved %s after %d iterations", path.name, steps_done)

    def save_averages(self, steps_done: int) -> None:
        """Write the averaged weights, from a snapshot of this very step."""
        ema = self.run.ema
        if not self.writes or ema is None or not ema.has_begun:
            return
        folder, sigma = ema_folder(self.settings, self.files), self.settings.ema.default_output_sigma
        if not any(snapshot.n == ema.updates_done for snapshot in list_snapshots(folder)):
            take_snapshot(self.settings, self.files, ema)
        weights = synthesize(folder, self.settings.ema.sigma_rels, sigma, constants=ema_constants(self.settings))
        save_file(self.files.ema_final, weights, self._record(steps_done))
        log.info("averaged weights (sigma %g) are in %s", sigma, self.files.ema_final)
