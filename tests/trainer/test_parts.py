"""Meters, cadence, pace and the tracker."""

import json
import math

import pytest
import torch

from mmaudio.runs.names import METRICS_FILE
from mmaudio.trainer.meters import Meters, Sum
from mmaudio.trainer.pace import Pace, eta_words
from mmaudio.trainer.solver import Cadence
from mmaudio.trainer.stopping import NonFiniteError, stop_if_not_finite
from mmaudio.trainer.tracker import Tracker, read_metrics

CPU = torch.device("cpu")


def test_reading_an_average_clears_it():
    meters = Meters({"loss": (), "bins": (2,)}, CPU)
    meters.add({"loss": Sum.of(torch.tensor([1.0, 2.0])), "bins": Sum(torch.tensor([3.0, 0.0]), torch.tensor([2.0, 0.0]))})
    meters.add({"loss": Sum.of(torch.tensor([6.0]))})
    values = meters.pop()
    assert values["loss"] == 3.0
    assert values["bins"][0] == 1.5
    assert math.isnan(values["bins"][1])
    assert math.isnan(meters.pop()["loss"])


def test_cadence():
    assert [step for step in range(10) if Cadence(3, also=(5,)).due(step)] == [3, 5, 6, 9]
    assert not any(Cadence(0).due(step) for step in range(10))


def test_pace():
    pace = Pace()
    pace.add_step(0.0)
    values = pace.pop()
    assert values["step_s"] > 0
    assert values["data_wait"] == 0
    assert eta_words(0.5, 7200).startswith("1:00:00 to go, done ")


def test_tracker_goes_on_where_the_run_does(tmp_path):
    tracker = Tracker(tmp_path, writes=True)
    for step in (0, 5, 10):
        tracker.log("valid", {"loss": float("nan") if step == 5 else 1.0, "binned_loss": [1.0, float("nan")]}, step)
    tracker.close()
    with open(tmp_path / METRICS_FILE, "a") as file:
        file.write('{"steps_done": 1')  # torn by a kill
    assert [line["steps_done"] for line in read_metrics(tmp_path)] == [0, 5, 10]
    Tracker(tmp_path, writes=True, steps_done=7).close()
    assert read_metrics(tmp_path)[1] == {"steps_done": 5, "valid/loss": None, "valid/binned_loss": [1.0, None]}
    assert len((tmp_path / METRICS_FILE).read_text().splitlines()) == 2
    Tracker(tmp_path, writes=True).close()
    assert read_metrics(tmp_path) == []
    assert all(json.loads(line) for line in (tmp_path / METRICS_FILE).read_text().splitlines())


def test_only_one_process_writes(tmp_path):
    tracker = Tracker(tmp_path, writes=False)
    tracker.log("train", {"loss": 1.0}, 1)
    tracker.close()
    assert list(tmp_path.iterdir()) == []


def test_rows_are_named_where_numbers_are_none():
    ids = ["a", "b", "c"]
    stop_if_not_finite(torch.ones(3), torch.tensor(1.0), ids, 7)
    with pytest.raises(NonFiniteError, match=r"the loss of iteration 7 is not finite; rows: b, c\. The step was not taken"):
        stop_if_not_finite(torch.tensor([1.0, math.inf, math.nan]), torch.tensor(math.nan), ids, 7)
    with pytest.raises(NonFiniteError, match=r"the gradient \(norm inf\) of iteration 7 is not finite; rows: a, b, c"):
        stop_if_not_finite(torch.ones(3), torch.tensor(math.inf), ids, 7)
    with pytest.raises(NonFiniteError, match="and 4 more"):
        stop_if_not_finite(torch.full((20,), math.nan), torch.tensor(1.0), [str(i) for i in range(20)], 7)
