"""The training engine: takes steps, runs stages when they are due, saves, resumes, stops. It knows nothing of what is learned.

A task (`flow_solver` is one) says what a step is, what its stages do and what its state is.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol

import torch

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

    def __next__(self) -> Any: ...

    def close(self) -> None: ...


class Task(Protocol):
    """What the engine trains."""

    meter_shapes: Mapping[str, tuple[int, ...]]  # what a step's result holds
    device: torch.device

    def resume(self) -> int:
        """Collective. Take up the newest checkpoint, if there is one; returns the finished iterations."""

    def batches(self, steps_done: int) -> Batches:
        """Batches from this iteration on, without end."""

    def step(self, batch: Any, steps_done: int) -> dict[str, Sum]:
        """Collective. One iteration; raises rather than take a step that is not finite."""

    def stages(self) -> Sequence[Stage]:
        """Everything else there is to do, in the order it is done in."""

    def save_weights(self, steps_done: int, copy: bool) -> None: ...

    def save_checkpoint(self, steps_done: int, copy: bool) -> None: ...

    def finish(self, steps_done: int) -> None:
        """Collective. After the last iteration, all saved."""


@dataclass(frozen=True)
class Plan:
    """How long to train and when to save. `saves_at_exit` covers the last iteration and being asked to stop."""

    num_iterations: int
    log: Cadence
    weights: Cadence
    checkpoint: Cadence
    copies: Cadence = Cadence()  # noqa: RUF009 - frozen
    saves_at_exit: bool = True


class Solver:
    """Collective in all it does: every rank runs the same steps and stages."""

    def __init__(self, task: Task, plan: Plan, open_tracker: Callable[[int], Tracker]) -> None:
        """`open_tracker` is given the finished iterations to continue from."""
        self.task, self.plan, self._open_tracker = task, plan, open_tracker
        self._saved_at = -1

    def run(self) -> bool:
        """Train from the newest checkpoint to the last iteration. False if asked to stop before it."""
        steps_done = self.task.resume()
        tracker = self._open_tracker(steps_done)
        with closing(tracker), StopRequest(self.task.device) as stop:
            steps_done = self._train(steps_done, tracker, stop)
        if self.plan.saves_at_exit and self._saved_at != steps_done:
            self._save(steps_done, weights=True, checkpoint=True)
        if steps_done < self.plan.num_iterations:
            log.warning("asked to stop after %d of %d iterations; the same command goes on from here", steps_done, self.plan.num_iterations)
            return False
        self.task.finish(steps_done)
        return True

    def _train(self, steps_done: int, tracker: Tracker, stop: StopRequest) -> int:
        plan, stages, pace = self.plan, self.task.stages(), Pace()
        meters = Meters(self.task.meter_shapes, self.task.device)
        if steps_done == 0:
            self._run_stages([stage for stage in stages if stage.at_start], 0, tracker)
        ran: set[str] = set()
        with closing(self.task.batches(steps_done)) as batches:
            while steps_done < plan.num_iterations and not stop.is_agreed():
                batch, waited_s = _timed_next(batches)
                meters.add(self.task.step(batch, steps_done))
                steps_done += 1
                pace.add_step(waited_s)
                if plan.log.due(steps_done):
                    values: Values = {**meters.pop(), **pace.pop()}
                    tracker.log("train", values, steps_done, eta_words(_number(values["step_s"]), plan.num_iterations - steps_done))
                ran = self._run_stages([stage for stage in stages if stage.cadence.due(steps_done)], steps_done, tracker)
                self._save_due(steps_done)
        if steps_done >= plan.num_iterations:
            self._run_stages([stage for stage in stages if stage.at_end and stage.name not in ran], steps_done, tracker)
        return steps_done
