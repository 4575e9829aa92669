"""The engine alone, on a task that learns nothing: what is saved when, and what a signal may interrupt."""

import os
import signal
from types import MappingProxyType

import pytest
import torch

from mmaudio.trainer.meters import Sum
from mmaudio.trainer.solver import Cadence, Plan, Solver
from mmaudio.trainer.tracker import Tracker


class Batches:
    def __next__(self) -> int:
        return 0

    def close(self) -> None:
        pass


class CountingTask:
    """Every step gives the number of steps before it; asks itself to stop after `stops_after` of them."""

    device = torch.device("cpu")
    steps_done = 0
    meter_shapes = MappingProxyType({"count": ()})

    def __init__(self, stops_after: int | None = None) -> None:
        self.stops_after = stops_after

    def batches(self, steps_done: int) -> Batches:
        return Batches()

    def step(self, batch: int, steps_done: int) -> dict[str, Sum]:
        if steps_done + 1 == self.stops_after:
            os.kill(os.getpid(), signal.SIGTERM)
        return {"count": Sum.of(torch.tensor([float(steps_done)]))}

    def stages(self) -> list:
        return []


class SignalledKeeper:
    """Notes what it is asked to save; a SIGTERM arrives in the middle of every save."""

    def __init__(self) -> None:
        self.saved = []

    def _save(self, kind: str, steps_done: int) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        self.saved.append((kind, steps_done))

    def save_weights(self, steps_done: int, copy: bool) -> None:
        self._save("weights", steps_done)

    def save_checkpoint(self, steps_done: int, copy: bool) -> None:
        self._save("checkpoint", steps_done)


def plan_of(num_iterations: int, *, saves_at_exit: bool = True) -> Plan:
    never = Cadence()
    return Plan(num_iterations, log=Cadence(1), weights=never, checkpoint=never, copies=never, saves_at_exit=saves_at_exit)


@pytest.fixture
def outside():
    """A SIGTERM that gets past the engine is noted here, and does not end the tests."""
    got = []
    before = signal.signal(signal.SIGTERM, lambda *_: got.append(1))
    yield got
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(("stops_after", "end"), [(2, 2), (None, 4)])
def test_the_save_at_the_end_cannot_be_interrupted(outside, tmp_path, stops_after, end):
    keeper = SignalledKeeper()
    tracker = Tracker(tmp_path, writes=False)
    assert Solver(CountingTask(stops_after), keeper, plan_of(4), tracker).run() == end
    assert keeper.saved == [("weights", end), ("checkpoint", end)]
    assert outside == []


def test_a_run_that_keeps_nothing_at_its_end(outside, tmp_path):
    keeper = SignalledKeeper()
    plan = plan_of(2, saves_at_exit=False)
    assert Solver(CountingTask(), keeper, plan, Tracker(tmp_path, writes=False)).run() == 2
    assert keeper.saved == []
