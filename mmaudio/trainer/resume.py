"""The state of a run: made anew, from weights, or from a checkpoint."""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from mmaudio.checkpoints.ema_snapshots import claim_snapshots, retire_snapshots
from mmaudio.checkpoints.load import load_checkpoint, load_weights, newest_checkpoint
from mmaudio.checkpoints.run_files import RunFiles, RunState
from mmaudio.distributed.collectives import broadcast_from_first
from mmaudio.distributed.devices import compile_
from mmaudio.distributed.ranks import Ranks
from mmaudio.settings.schema import TrainSettings
from mmaudio.trainer.ema_averages import PowerAverages, flatten_parameters_, updates_of
from mmaudio.trainer.lr_schedule import Schedule
from mmaudio.trainer.model_settings import ema_folder, freeze_, snapshot_owner
from mmaudio.trainer.optimizer import OptimizerStep, load_optimizer_, trained_parameters
from mmaudio.trainer.parallel import is_sharded, parallelize, wrapped_blocks
from mmaudio.trainer.solver import Solver
from mmaudio.trainer.train_state import BestMetric, PendingStages, TrainState

log = logging.getLogger(__name__)


def begin_or_resume(solver: Solver, files: RunFiles) -> TrainState:
    """Collective. The state of a run: as its folder holds it, else at its first iteration.

    Raises: UserError for a checkpoint or weights of another model.
    """
    settings, ranks, device = solver.settings, solver.ranks, solver.device
    saved = find_checkpoint(settings, files, ranks)
    network = _begin_network(solver, saved).to(device)
    freeze_(network, settings.freeze)
    if solver.compiles:
        for unit in wrapped_blocks(network):
            compile_(unit)
    if settings.parallel != "fsdp" or ranks.world_size == 1:
        flatten_parameters_(network)  # averages follow all of it at once; shares have memory of their own
    objective = solver.build_objective(network)
    accumulates = settings.micro_batch is not None and settings.micro_batch * ranks.world_size < settings.batch_size
    module = parallelize(objective, network, ranks, device, settings.parallel, accumulates=accumulates)
    optimizer = solver.build_optimizer(network)
    state = TrainState(
        network,
        objective,
        module,
        optimizer,
        OptimizerStep(module, optimizer, settings.clip_grad_norm, scaled=settings.enable_grad_scaler),
        Schedule.of(settings),
        _begin_averages(solver, network),
        solver.stateful(),
        BestMetric(),
        PendingStages(),
        saved.steps_done if saved else 0,
        updates_of(saved.ema) if saved else 0,
    )
    if saved:
        _resume_(state, saved, solver.stale_keys)
    if state.ema and ranks.is_first and not settings.only_stage():
        folder = ema_folder(settings, files)
        claim_snapshots(folder, snapshot_owner(settings, files))
        retire_snapshots(folder, state.ema.updates_done)
    return state


def find_checkpoint(settings: TrainSettings, files: RunFiles, ranks: Ranks) -> RunState | None:
    """Collective. The checkpoint asked for, or this run's newest. Rank 0 chooses, so that all read the same file."""
    path = broadcast_from_first(_choose_checkpoint(settings, files) if ranks.is_first else None)
    if path is None:
        return None
    state = load_checkpoint(path)
    log.info("continuing %s after %d iterations", path, state.steps_done)
    if settings.checkpoint and path != Path(settings.checkpoint):
        log.info("checkpoint=%s is not read: the run has gone on from it", settings.checkpoint)
    if settings.weights:
        log.info("weights=%s is not read: only a run without a checkpoint starts from it", settings.weights)
    return state


def _choose_checkpoint(settings: TrainSettings, files: RunFiles) -> Path | None:
    """The run's own newest; the one that is asked for, where that is further (`check_resume` refuses those that are not the run's)."""
    newest = newest_checkpoint(files)
    for sentence in newest.skipped if newest else ():
        log.warning("skipped a checkpoint: %s", sentence)
    if settings.checkpoint is None:
        return newest.path if newest else None
    asked = Path(settings.checkpoint)
    return newest.path if newest and newest.state.steps_done > load_checkpoint(asked).steps_done else asked


def _begin_network(solver: Solver, saved: RunState | None) -> nn.Module:
    if saved:
        return solver.restore_network(saved.weights)
    if solver.settings.weights:
        log.info("starting from the weights of %s", solver.settings.weights)
        return solver.restore_network(load_weights(Path(solver.settings.weights)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(solver.settings.seed)  # the same starting weights on every rank
        return solver.build_network()


def _begin_averages(solver: Solver, network: nn.Module) -> PowerAverages | None:
    ema, live = solver.settings.ema, solver.averaged(network)
    if not ema.enable or not (solver.ranks.is_first or is_sharded(list(live.values()))):
        return None
    return PowerAverages(live, ema.sigma_rels, ema.update_every)


def _resume_(state: TrainState, saved: RunState, stale_keys: Sequence[str]) -> None:
    """Raises: UserError where a part of the state is of another state."""
    load_optimizer_(state.optimizer, saved.optimizer, trained_parameters(state.network))
    state.restore_(saved.extra)
    if state.ema is None:
        return
    if saved.ema is None:
        log.warning("the checkpoint has no averaged weights; averaging starts anew from its present ones")
    else:
        stale = tuple(f".ema_model.{key}" for key in stale_keys)
        state.ema.load_state_dict({name: value for name, value in saved.ema.items() if not name.endswith(stale)})
