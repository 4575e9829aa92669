"""What changes while a run trains: built anew, from weights, or from a checkpoint."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mmaudio.base.compiling import compile_
from mmaudio.base.ranks import Ranks, share_from_first
from mmaudio.base.settings import TrainSettings
from mmaudio.checkpoints.load import load_checkpoint, load_weights, newest_checkpoint
from mmaudio.checkpoints.run_state import RunFiles, RunState
from mmaudio.checkpoints.snapshots import retire_snapshots
from mmaudio.trainer.descent import Descent, load_optimizer_, optimizer_state
from mmaudio.trainer.ema import PowerAverages, updates_of
from mmaudio.trainer.freezing import freeze_
from mmaudio.trainer.one_block import gather_
from mmaudio.trainer.parallel import is_shared, share_out, units_of
from mmaudio.trainer.precision import uses_compile
from mmaudio.trainer.run_settings import ema_folder
from mmaudio.trainer.schedule import Schedule

log = logging.getLogger(__name__)


class Stateful(Protocol):
    """Something whose state a checkpoint keeps: tensors, numbers and text, in dictionaries and lists."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> Any: ...


class Plan(Protocol):
    """What a task says of its run (`Solver` has all of it)."""

    settings: TrainSettings
    files: RunFiles
    ranks: Ranks
    device: torch.device
    stale_keys: Sequence[str]

    def build_network(self) -> nn.Module: ...

    def restore_network(self, weights: Mapping[str, Tensor]) -> nn.Module: ...

    def build_objective(self, network: nn.Module) -> nn.Module: ...

    def build_optimizer(self, network: nn.Module) -> torch.optim.Optimizer: ...

    def averaged(self, network: nn.Module) -> Mapping[str, Tensor]: ...

    def stateful(self) -> Mapping[str, Stateful]: ...


@dataclass
class Best:
    """The best value of the metric that a run is judged by, and the iterations finished then; part of every checkpoint."""

    value: float | None = None
    steps_done: int = 0

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value, "steps_done": self.steps_done}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.value, self.steps_done = state["value"], state["steps_done"]


@dataclass(frozen=True)
class Run:
    """Everything that changes while training, and where it stood when built (`steps_done`)."""

    network: nn.Module
    objective: nn.Module  # what computes the losses, on this process alone
    module: nn.Module  # the same, shared out among the ranks: what is trained
    optimizer: torch.optim.Optimizer
    descent: Descent
    schedule: Schedule
    ema: PowerAverages | None  # on rank 0, or of a shared network on every rank, if the run keeps averages
    stateful: Mapping[str, Stateful]
    best: Best
    steps_done: int
    updates_done: int  # of the averages, known on every rank

    @property
    def is_shared(self) -> bool:
        """Whether every process has its share of the tensors, so that all take part where the whole is wanted."""
        return is_shared(list(self.network.parameters()))

    def state(self, steps_done: int) -> RunState:
        """What training needs to go on: the live tensors, as shares where they are."""
        parameters = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        return RunState(
            steps_done,
            dict(self.network.state_dict()),
            optimizer_state(self.optimizer, parameters),
            self.schedule.published_state(steps_done),
            self.ema.state_dict() if self.ema else None,
            {"best": self.best.state_dict(), **{name: each.state_dict() for name, each in self.stateful.items()}},
        )


def find_state(settings: TrainSettings, files: RunFiles, ranks: Ranks) -> RunState | None:
    """Collective. The checkpoint asked for, or this run's newest. Rank 0 chooses, so that all read the same file."""
    path = share_from_first(_choose_checkpoint(settings, files) if ranks.is_first else None)
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
    """The run's own newest; the one that is asked for, where that is further (`check_start` refuses those that are not the run's)."""
    newest = newest_checkpoint(files)
    for sentence in newest.skipped if newest else ():
        log.warning("skipped a checkpoint: %s", sentence)
    if settings.checkpoint is None:
        return newest.path if newest else None
    asked = Path(settings.checkpoint)
    return newest.path if newest and newest.state.steps_done > load_checkpoint(asked).steps_done else asked


def _begin_network(plan: Plan, state: RunState | None) -> nn.Module:
    if state:
        return plan.restore_network(state.weights)
    if plan.settings.weights:
        log.info("starting from the weights of %s", plan.settings.weights)
        return plan.restore_network(load_weights(Path(plan.settings.weights)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.settings.seed)  # the same starting weights on every rank
        return plan.build_network()


def build_run(plan: Plan) -> Run:
    """Collective. Build a run, continuing what its folder holds.

    Raises: UserError for a checkpoint or weights of another model.
    """
    settings, ranks, device = plan.settings, plan.ranks, plan.device
    state = find_state(settings, plan.files, ranks)
    network = _begin_network(plan, state).to(device)
    freeze_(network, settings.freeze)
    if uses_compile(settings, device):
        for unit in units_of(network):
            compile_(unit)
    if settings.parallel != "fsdp" or ranks.world_size == 1:
        gather_(network)  # averages follow all of it at once; shares have memory of their own
    objective = plan.build_objective(network)
    accumulates = settings.micro_batch is not None and settings.micro_batch * ranks.world_size < settings.batch_size
    module = share_out(objective, network, ranks, device, settings.parallel, accumulates=accumulates)
    optimizer = plan.build_optimizer(network)
    run = Run(
        network,
        objective,
        module,
        optimizer,
        Descent(module, optimizer, settings.clip_grad_norm, scaled=settings.enable_grad_scaler),
        Schedule.of(settings),
        _begin_averages(plan, network),
        plan.stateful(),
        Best(),
        state.steps_done if state else 0,
        updates_of(state.ema) if state else 0,
    )
    if state:
        _continue_(run, state, plan.stale_keys)
    if run.ema and ranks.is_first and not settings.only_stage():
        retire_snapshots(ema_folder(settings, plan.files), run.ema.updates_done)
    return run


def _begin_averages(plan: Plan, network: nn.Module) -> PowerAverages | None:
    ema, live = plan.settings.ema, plan.averaged(network)
    if not ema.enable or not (plan.ranks.is_first or is_shared(list(live.values()))):
        return None
    return PowerAverages(live, ema.sigma_rels, ema.update_every)


def _continue_(run: Run, state: RunState, stale_keys: Sequence[str]) -> None:
    """Raises: UserError where a part of the state is of another run."""
    load_optimizer_(run.optimizer, state.optimizer, [parameter for parameter in run.network.parameters() if parameter.requires_grad])
    known: dict[str, Callable[[Mapping[str, Any]], Any]] = {name: each.load_state_dict for name, each in run.stateful.items()}
    for name, load in {"best": run.best.load_state_dict, **known}.items():
        if name in state.extra:
            load(state.extra[name])
    if run.ema is None:
        return
    if state.ema is None:
        log.warning("the checkpoint has no averaged weights; averaging starts anew from its present ones")
    else:
        stale = tuple(f".ema_model.{key}" for key in stale_keys)
        run.ema.load_state_dict({name: value for name, value in state.ema.items() if not name.endswith(stale)})
