"""The training engine: takes steps, runs stages when they are due, saves, resumes, stops. It knows nothing of what is learned.

A task (`flow_solver` is one) says what a step is, what its stages do and what its state is.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from mmaudio.base.ranks import wait_for_all
from mmaudio.trainer.meters import Meters, Sum, Values
from mmaudio.trainer.pace import Pace, eta_words
from mmaudio.trainer.stopping import StopRequest
from mmaudio.trainer.tracker import Tracker

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cadence:
    """Due after every `every` finished iterations (0: never), and after those listed."""

    every: int = 0
    also: tuple[int, ...] = ()

    def due(self, steps_done: int) -> bool:
        return steps_done > 0 and ((self.every > 0 and steps_done % self.every == 0) or steps_done in self.also)


@dataclass(frozen=True)
class Stage:
    """What is done between steps: a name, when, and a function of the finished iterations that gives values to log.

    Every rank takes part. `at_start`: also before the first iteration. `at_end`: also after the last one.
    """

    name: str
    cadence: Cadence
    run: Callable[[int], Mapping[str, float | list[float]]]
    at_start: bool = False
    at_end: bool = False


class Batches(Protocol):
    """An iterator that can be closed."""

    def __next__(self) -> Any:
        """The next batch; waits until it is there."""

    def close(self) -> None:
        """Give up what reads ahead."""


class Task(Protocol):
    """What the engine trains."""

    device: torch.device
    steps_done: int  # finished iterations of the state it was built with
    meter_shapes: Mapping[str, tuple[int, ...]]  # what a step's result holds

    def batches(self, steps_done: int) -> Batches:
        """Batches from this iteration on, without end."""

    def step(self, batch: Any, steps_done: int) -> dict[str, Sum]:
        """Collective. One iteration; raises rather than take a step that is not finite."""

    def stages(self) -> Sequence[Stage]:
        """Everything else there is to do, in the order it is done in."""


class Keeper(Protocol):
    """What saves it. Called on every rank; decides itself who writes."""

    def save_weights(self, steps_done: int, copy: bool) -> None:
        """Save what a trained network needs; `copy`: under a name of its own that nothing replaces."""

    def save_checkpoint(self, steps_done: int, copy: bool) -> None:
        """Save what training needs to go on."""


@dataclass(frozen=True)
class Plan:
    """How long to train, and what is due when. `saves_at_exit`: also after the last iteration and when asked to stop."""

    num_iterations: int
    log: Cadence
    weights: Cadence
    checkpoint: Cadence
    copies: Cadence
    saves_at_exit: bool


class Solver:
    """Collective in all it does: every rank runs the same steps and stages."""

    def __init__(self, task: Task, keeper: Keeper, plan: Plan, tracker: Tracker) -> None:
        self.task, self.keeper, self.plan, self.tracker = task, keeper, plan, tracker
        self._saved = dict.fromkeys(("weights", "checkpoint"), task.steps_done)

    def run(self) -> int:
        """Train to the last iteration, or until asked to stop; save what is not saved yet if the plan `saves_at_exit`.

        Returns: the finished iterations.
        """
        with StopRequest(self.task.device) as stop:
            steps_done = self._train(stop)
            if self.plan.saves_at_exit:  # still inside: a second SIGTERM must not interrupt the save
                self._save(steps_done, [kind for kind, at in self._saved.items() if at != steps_done])
            wait_for_all()
        if steps_done < self.plan.num_iterations:
            log.warning("asked to stop after %d of %d iterations", steps_done, self.plan.num_iterations)
        return steps_done

    def _train(self, stop: StopRequest) -> int:
        task, plan, steps_done = self.task, self.plan, self.task.steps_done
        stages, meters = task.stages(), Meters(task.meter_shapes, task.device)
        if steps_done == 0:
            self._run_stages([stage for stage in stages if stage.at_start], 0)
        if steps_done >= plan.num_iterations:
            log.info("all %d iterations are done already", plan.num_iterations)
        pace = Pace()
        with closing(task.batches(steps_done)) as batches:
            while steps_done < plan.num_iterations and not stop.is_agreed():
                batch, waited_s = _timed_next(batches)
                meters.add(task.step(batch, steps_done))
                steps_done += 1
                pace.add_step(waited_s)
                is_last = steps_done == plan.num_iterations
                if plan.log.due(steps_done) or is_last:
                    self._log_training(meters.pop(), pace.pop(), steps_done)
                self._run_stages([stage for stage in stages if stage.cadence.due(steps_done) or (is_last and stage.at_end)], steps_done)
                self._save_due(steps_done)
        return steps_done

    def _log_training(self, values: Values, pace: dict[str, float], steps_done: int) -> None:
        eta = eta_words(pace["step_s"], self.plan.num_iterations - steps_done)
        self.tracker.log("train", {**values, **pace}, steps_done, eta)

    def _run_stages(self, stages: Sequence[Stage], steps_done: int) -> None:
        for stage in stages:
            self.tracker.log(stage.name, stage.run(steps_done), steps_done)

    def _save_due(self, steps_done: int) -> None:
        due = {"weights": self.plan.weights, "checkpoint": self.plan.checkpoint}
        self._save(steps_done, [kind for kind, cadence in due.items() if cadence.due(steps_done)])
        if self.plan.copies.due(steps_done):
            self.keeper.save_weights(steps_done, copy=True)
            self.keeper.save_checkpoint(steps_done, copy=True)

    def _save(self, steps_done: int, kinds: Sequence[str]) -> None:
        save = {"weights": self.keeper.save_weights, "checkpoint": self.keeper.save_checkpoint}
        for kind in kinds:
            save[kind](steps_done, copy=False)
            self._saved[kind] = steps_done


def _timed_next(batches: Batches) -> tuple[Any, float]:
    began_s = time.monotonic()
    return next(batches), time.monotonic() - began_s
