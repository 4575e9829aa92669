"""What changes while a run trains, and what a checkpoint keeps of it; `resume` makes it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from mmaudio.checkpoints.run_files import RunState
from mmaudio.trainer.ema_averages import PowerAverages
from mmaudio.trainer.lr_schedule import Schedule
from mmaudio.trainer.optimizer import OptimizerStep, optimizer_state, trained_parameters
from mmaudio.trainer.parallel import is_sharded


class Stateful(Protocol):
    """Something whose state a checkpoint keeps: tensors, numbers and text, in dictionaries and lists."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> Any: ...


@dataclass
class BestMetric:
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
class PendingStages:
    """Stages that were due after the last finished iteration and were not done, because the run was asked to stop."""

    names: tuple[str, ...] = ()

    def state_dict(self) -> dict[str, Any]:
        return {"names": list(self.names)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.names = tuple(state["names"])


@dataclass(frozen=True)
class TrainState:
    """Everything that changes while training, and where it stood when built (`steps_done`)."""

    network: nn.Module
    objective: nn.Module  # what computes the losses, on this process alone
    module: nn.Module  # the same, shared out among the ranks: what is trained
    optimizer: torch.optim.Optimizer
    optimizer_step: OptimizerStep
    schedule: Schedule
    ema: PowerAverages | None  # on rank 0, or of a shared network on every rank, if the run keeps averages
    stateful: Mapping[str, Stateful]
    best: BestMetric
    unfinished: PendingStages
    steps_done: int
    updates_done: int  # of the averages, known on every rank

    @property
    def is_shared(self) -> bool:
        """Whether every process has its share of the tensors, so that all take part where the whole is wanted."""
        return is_sharded(list(self.network.parameters()))

    def _kept(self) -> dict[str, Stateful]:
        return {"best": self.best, "unfinished": self.unfinished, **self.stateful}

    def to_save(self, steps_done: int) -> RunState:
        """What a checkpoint holds, all that training needs to go on: the live tensors, as shares where they are."""
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
