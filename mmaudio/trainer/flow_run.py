"""What one run of flow training consists of: built anew, from weights, or from a checkpoint."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmaudio.base.ranks import Ranks, share_from_first
from mmaudio.base.settings import TrainSettings
from mmaudio.batches import Mixture
from mmaudio.checkpoints.load import load_checkpoint, load_weights, newest_checkpoint
from mmaudio.checkpoints.run_state import RunFiles, RunState
from mmaudio.checkpoints.snapshots import retire_snapshots
from mmaudio.network import STALE_KEYS, FlowTransformer, build_network, load_network
from mmaudio.trainer.descent import build_optimizer, load_optimizer_
from mmaudio.trainer.ema import PowerAverages
from mmaudio.trainer.freezing import freeze_
from mmaudio.trainer.objective import FlowObjective, flow_settings, spread, uses_amp, uses_compile
from mmaudio.trainer.run_settings import ema_folder, final_cond
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
