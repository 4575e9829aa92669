"""The learning rate as a function of the iteration (training.md section 5), and its state as the published system saves it."""

import bisect
import dataclasses
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, MultiStepLR, SequentialLR

from mmaudio.settings.schema import TrainSettings

POLY_POWER = 0.9


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Linear warm-up, then constant, step or poly. Milestones and poly's progress count from the end of the warm-up."""

    kind: str
    base_lr: float
    warmup_steps: int
    steps: tuple[int, ...]
    gamma: float
    num_iterations: int

    @classmethod
    def of(cls, settings: TrainSettings) -> "Schedule":
        """The schedule that the settings name."""
        return cls(
            settings.lr_schedule,
            settings.learning_rate,
            settings.linear_warmup_steps,
            settings.lr_schedule_steps,
            settings.lr_schedule_gamma,
            settings.num_iterations,
        )

    def factor(self, iteration: int) -> float:
        """What multiplies the base rate during iteration `iteration` (from 0)."""
        since_warmup = iteration - self.warmup_steps
        if since_warmup < 0:
            return (iteration + 1) / (self.warmup_steps + 1)
        if self.kind == "step":
            return float(self.gamma ** bisect.bisect_right(sorted(self.steps), since_warmup))
        if self.kind == "poly":
            return float((1 - min(since_warmup / self.num_iterations, 1.0)) ** POLY_POWER)
        return 1.0

    def learning_rate(self, iteration: int) -> float:
        return self.base_lr * self.factor(iteration)

    def set_lr_(self, optimizer: torch.optim.Optimizer, iteration: int) -> float:
        """Let the optimizer's next step be that of an iteration. Returns: its learning rate."""
        learning_rate = self.learning_rate(iteration)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        return learning_rate

    def published_state(self, steps_done: int) -> dict[str, Any]:
        """The state dict of the published system's scheduler after `steps_done` iterations, so that it can continue.

        Ours never reads more of it than `last_epoch`: the rate is a function of the iteration and of today's settings.
        """
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=self.base_lr)
        # plain functions: torch saves None for them, as the published files have it, but the attributes of a method's owner
        warmup, main = LambdaLR(optimizer, lambda x: self.factor(x)), self._main_part(optimizer)
        sequence = SequentialLR(optimizer, [warmup, main], milestones=[self.warmup_steps])
        state = sequence.state_dict()
        in_warmup = steps_done < self.warmup_steps
        _set_progress(state["_schedulers"][0], min(steps_done, max(self.warmup_steps - 1, 0)), self)
        if not in_warmup:
            _set_progress(state["_schedulers"][1], steps_done - self.warmup_steps, self, offset=self.warmup_steps)
        return state | {"last_epoch": steps_done, "_last_lr": [self.learning_rate(steps_done)]}

    def _main_part(self, optimizer: torch.optim.Optimizer) -> LRScheduler:
        if self.kind == "step":
            return MultiStepLR(optimizer, sorted(self.steps), self.gamma)
        return LambdaLR(optimizer, lambda since_warmup: self.factor(since_warmup + self.warmup_steps))


def _set_progress(state: dict[str, Any], steps: int, schedule: Schedule, offset: int = 0) -> None:
    state.update(last_epoch=steps, _step_count=steps + 1, _last_lr=[schedule.learning_rate(steps + offset)])
