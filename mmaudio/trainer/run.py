"""What changes while a run trains: built anew, from weights, or from a checkpoint."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import nn

from mmaudio.base.compiling import compile_
from mmaudio.base.ranks import Ranks, share_from_first
from mmaudio.base.settings import TrainSettings
from mmaudio.checkpoints.load import load_checkpoint, load_weights, newest_checkpoint
from mmaudio.checkpoints.run_state import RunFiles, RunState
from mmaudio.checkpoints.snapshots import claim_snapshots, retire_snapshots
from mmaudio.trainer.descent import Descent, load_optimizer_, optimizer_state, trained_parameters
from mmaudio.trainer.ema import PowerAverages, updates_of
from mmaudio.trainer.freezing import freeze_
from mmaudio.trainer.one_block import gather_
from mmaudio.trainer.parallel import is_shared, share_out, units_of
from mmaudio.trainer.run_settings import ema_folder, snapshot_owner
from mmaudio.trainer.schedule import Schedule

if TYPE_CHECKING:
    from mmaudio.trainer.solver import Solver

log = logging.getLogger(__name__)


class Stateful(Protocol):
    """Something whose state a checkpoint keeps: tensors, numbers and text, in dictionaries and lists."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> Any: ...


@dataclass
class Best:
    """The best value of the metric that a run is judged by, and the iterations finished then; part of every checkpoint."""

    value: float | None = None
    steps_done: int = 0
    metric: str | None = None  # whose value it is, where it is known

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value, "steps_done": self.steps_done, "metric": self.metric}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.value, self.steps_done, self.metric = state["value"], state["steps_done"], state.get("metric")

    def take(self, metric: str, value: float, steps_done: int, *, higher_is_better: bool) -> bool:
        """Make this value the best one if none was better. Returns: whether it is. The first value of another metric always is."""
        known = self.value if self.metric in (None, metric) else None
        if known is not None and (value <= known if higher_is_better else value >= known):
            return False
        self.value, self.steps_done, self.metric = value, steps_done, metric
        return True


@dataclass
class Unfinished:
    """Stages that were due after the last finished iteration and were not done, because the run was asked to stop."""

    names: tuple[str, ...] = ()

    def state_dict(self) -> dict[str, Any]:
        return {"names": list(self.names)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.names = tuple(state["names"])


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
    unfinished: Unfinished
    steps_done: int
    updates_done: int  # of the averages, known on every rank

    @property
    def is_shared(self) -> bool:
        """Whether every process has its share of the tensors, so that all take part where the whole is wanted."""
        return is_shared(list(self.network.parameters()))

    def _kept(self) -> dict[str, Stateful]:
        return {"best": self.best, "unfinished": self.unfinished, **self.stateful}

    def state(self, steps_done: int) -> RunState:
        """What training needs to go on: the live tensors, as shares where they are."""
        return RunState(
            steps_done,
            dict(self.network.state_dict()),
            optimizer_state(self.optimizer, trained_parameters(self.network)),
            self.schedule.published_state(steps_done),
            self.ema.state_dict() if self.ema else None,
            {name: each.state_dict() for name, each in self._kept().items()},
        )

    def restore_(self, extra: Mapping[str, Any]) -> None:
        """Take up what a checkpoint keeps besides network, optimizer and averages, as far as it is there."""
        for name, each in self._kept().items():
            if name in extra:
                each.load_state_dict(extra[name])


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


def _begin_network(solver: "Solver", state: RunState | None) -> nn.Module:
    if state:
        return solver.restore_network(state.weights)
    if solver.settings.weights:
        log.info("starting from the weights of %s", solver.settings.weights)
        return solver.restore_network(load_weights(Path(solver.settings.weights)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(solver.settings.seed)  # the same starting weights on every rank
        return solver.build_network()


def build_run(solver: "Solver") -> Run:
    """Collective. Build a run, continuing what its folder holds.

    Raises: UserError for a checkpoint or weights of another model.
    """
    settings, ranks, device = solver.settings, solver.ranks, solver.device
    state = find_state(settings, solver.files, ranks)
    network = _begin_network(solver, state).to(device)
    freeze_(network, settings.freeze)
    if solver.compiles:
        for unit in units_of(network):
            compile_(unit)
    if settings.parallel != "fsdp" or ranks.world_size == 1:
        gather_(network)  # averages follow all of it at once; shares have memory of their own
    objective = solver.build_objective(network)
    accumulates = settings.micro_batch is not None and settings.micro_batch * ranks.world_size < settings.batch_size
    module = share_out(objective, network, ranks, device, settings.parallel, accumulates=accumulates)
    optimizer = solver.build_optimizer(network)
    run = Run(
        network,
        objective,
        module,
        optimizer,
        Descent(module, optimizer, settings.clip_grad_norm, scaled=settings.enable_grad_scaler),
        Schedule.of(settings),
        _begin_averages(solver, network),
        solver.stateful(),
        Best(),
        Unfinished(),
        state.steps_done if state else 0,
        updates_of(state.ema) if state else 0,
    )
    if state:
        _continue_(run, state, solver.stale_keys)
    if run.ema and ranks.is_first and not settings.only_stage():
        folder = ema_folder(settings, solver.files)
        claim_snapshots(folder, snapshot_owner(settings, solver.files))
        retire_snapshots(folder, run.ema.updates_done)
    return run


def _begin_averages(solver: "Solver", network: nn.Module) -> PowerAverages | None:
    ema, live = solver.settings.ema, solver.averaged(network)
    if not ema.enable or not (solver.ranks.is_first or is_shared(list(live.values()))):
        return None
    return PowerAverages(live, ema.sigma_rels, ema.update_every)


def _continue_(run: Run, state: RunState, stale_keys: Sequence[str]) -> None:
    """Raises: UserError where a part of the state is of another run."""
    load_optimizer_(run.optimizer, state.optimizer, trained_parameters(run.network))
    run.restore_(state.extra)
    if run.ema is None:
        return
    if state.ema is None:
        log.warning("the checkpoint has no averaged weights; averaging starts anew from its present ones")
    else:
        stale = tuple(f".ema_model.{key}" for key in stale_keys)
        run.ema.load_state_dict({name: value for name, value in state.ema.items() if not name.endswith(stale)})
