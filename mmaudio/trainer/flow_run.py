"""What one run of flow training consists of: built anew, from weights, or from a checkpoint; and saved again."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmaudio.base.ranks import Ranks, share_from_first
from mmaudio.base.settings import TrainSettings
from mmaudio.base.specs import AudioSpec
from mmaudio.batches import Mixture
from mmaudio.checkpoints.load import load_checkpoint, load_weights, newest_checkpoint
from mmaudio.checkpoints.run_state import RunFiles, RunState, WeightsRecord
from mmaudio.checkpoints.save import save_checkpoint, save_file, save_weights
from mmaudio.checkpoints.snapshots import CONSTANTS, check_budget, list_snapshots, retire_snapshots, synthesize, thin_snapshots
from mmaudio.network import FlowTransformer, build_network, find_variant, load_network
from mmaudio.network.variants import STALE_KEYS
from mmaudio.trainer.descent import build_optimizer, load_optimizer_, set_rate_
from mmaudio.trainer.ema import PowerAverages, snapshot_bytes
from mmaudio.trainer.freezing import freeze_
from mmaudio.trainer.objective import FlowObjective, flow_settings, spread, uses_amp, uses_compile
from mmaudio.trainer.schedule import Schedule
from mmaudio.trainer.sources import null_text

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FlowRun:
    """Everything that changes while training, and where it stood when built (`steps_done`)."""

    network: FlowTransformer
    objective: FlowObjective  # the loss of `network`, on this process alone
    module: nn.Module  # the same, compiled and spread over the ranks as settings say: what is trained
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    ema: PowerAverages | None  # on rank 0, if the run keeps averages
    steps_done: int


def model_spec(settings: TrainSettings) -> AudioSpec:
    """Lengths and channels of the model's clips."""
    return AudioSpec(find_variant(settings.model).mode, settings.duration_s)


def ema_folder(settings: TrainSettings, files: RunFiles) -> Path:
    """Where snapshots of the averages go."""
    return Path(settings.ema.checkpoint_folder) if settings.ema.checkpoint_folder else files.ema_folder


def ema_constants(settings: TrainSettings) -> tuple[str, ...]:
    """Patterns of the tensors that do not change while training, so that every average of them is themselves."""
    return (*CONSTANTS, *settings.freeze)


def take_snapshot(settings: TrainSettings, files: RunFiles, ema: PowerAverages) -> None:
    """Store the averages as they are, and keep all that are stored within their disk budget."""
    ema.snapshot(ema_folder(settings, files))
    thin_snapshots(ema_folder(settings, files), settings.ema.max_snapshots_gb)


def weights_record(settings: TrainSettings, steps_done: int) -> WeightsRecord:
    """What is kept beside weights of this run after `steps_done` iterations."""
    return WeightsRecord(
        variant=settings.model,
        mode=model_spec(settings).mode,
        duration_s=settings.duration_s,
        backend=settings.backend,
        step=steps_done,
        exp_id=settings.name(),
        final_cond=final_cond(settings),
        dropped=tuple(sorted(settings.drop_conditions)),
        freeze=settings.freeze,
    )


def find_state(settings: TrainSettings, files: RunFiles, ranks: Ranks) -> RunState | None:
    """Collective. The checkpoint asked for, or this run's newest. Rank 0 chooses, so that all read the same file."""
    path = Path(settings.checkpoint) if settings.checkpoint else None
    if path is None and ranks.is_first:
        newest = newest_checkpoint(files)
        for sentence in newest.skipped if newest else ():
            log.warning("skipped a checkpoint: %s", sentence)
        path = newest.path if newest else None
    path = share_from_first(path)
    if path is None:
        return None
    state = load_checkpoint(path)
    log.info("continuing %s after %d iterations", path, state.steps_done)
    if settings.weights:
        log.info("weights=%s is not read: only a run without a checkpoint starts from it", settings.weights)
    return state


def final_cond(settings: TrainSettings) -> str:
    """What modulates the final layer: as asked, or as the variant has it."""
    return settings.final_cond or find_variant(settings.model).final_cond


def check_snapshot_budget(settings: TrainSettings) -> None:
    """Raises: UserError where the budget of the averages' snapshots has no room for two times."""
    with torch.device("meta"):
        state = build_network(settings.model).state_dict()
    check_budget(snapshot_bytes(state, settings.ema.sigma_rels), settings.ema.max_snapshots_gb)


def _build_network(settings: TrainSettings, state: RunState | None, train_rows: Mixture) -> FlowTransformer:
    build: dict[str, Any] = {"duration_s": settings.duration_s, "final_cond": final_cond(settings)}
    if state:
        return load_network(state.weights, settings.model, **build)
    if settings.weights:
        log.info("starting from the weights of %s", settings.weights)
        return load_network(load_weights(Path(settings.weights)), settings.model, **build)
    mean_c, std_c = train_rows.latent_statistics()
    text = null_text(train_rows.sources, settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)  # the same starting weights on every rank
        return build_network(settings.model, latent_mean=mean_c, latent_std=std_c, empty_string_feat=text, **build)


def build_run(settings: TrainSettings, files: RunFiles, ranks: Ranks, device: torch.device, train_rows: Mixture) -> FlowRun:
    """Collective. Build a run, continuing what its folder holds.

    Raises: UserError for a checkpoint or weights of another model.
    """
    state = find_state(settings, files, ranks)
    network = _build_network(settings, state, train_rows).to(device)
    freeze_(network, settings.freeze)
    amp = uses_amp(settings, device)
    objective = FlowObjective(network, flow_settings(settings), amp=amp)
    run = FlowRun(
        network,
        objective,
        spread(objective, ranks, compiled=uses_compile(settings, device)),
        build_optimizer(network, learning_rate=settings.learning_rate, weight_decay=settings.weight_decay, amp=amp),
        Schedule.of(settings),
        PowerAverages(network.state_dict(), settings.ema.sigma_rels, settings.ema.update_every)
        if settings.ema.enable and ranks.is_first
        else None,
        state.steps_done if state else 0,
    )
    if state:
        load_optimizer_(run.optimizer, state.optimizer)
    if state and run.ema:
        _load_averages_(run.ema, state)
    if run.ema:
        retire_snapshots(ema_folder(settings, files), run.ema.updates_done)
    return run


def _load_averages_(ema: PowerAverages, state: RunState) -> None:
    if state.ema is None:
        log.warning("the checkpoint has no averaged weights; averaging starts anew from its present ones")
    else:
        stale = tuple(f".ema_model.{key}" for key in STALE_KEYS)  # averaged by the published system where the weights have them
        ema.load_state_dict({name: value for name, value in state.ema.items() if not name.endswith(stale)})


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
