"""Meters, cadence, pace and the tracker."""

import json
import math

import pytest
import torch

from mmaudio.runs.folder import METRICS_FILE
from mmaudio.trainer.meters import Meters, Sum, Telemetry, eta_words
from mmaudio.trainer.optimizer import NonFiniteError, SkippedSteps
from mmaudio.trainer.stages import Every
from mmaudio.trainer.tracker import Tracker, read_metrics
from tests.conftest import draw_bar_chart

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
    assert [step for step in range(10) if Every(3, also=(5,)).due(step)] == [3, 5, 6, 9]
    assert not any(Every(0).due(step) for step in range(10))


def test_telemetry(monkeypatch):
    clock = iter((100.0, 104.0, 110.0))
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    monkeypatch.setattr("mmaudio.trainer.meters.matmul_rate", lambda device, dtype: 4e9)
    telemetry = Telemetry(1e9, 8, 2, CPU)
    telemetry.add_step(0.5)
    telemetry.add_step(0.5)
    values = telemetry.pop()
    memory_gb = values.pop("memory_gb")
    assert values == {"step_s": 2.0, "samples_s": 4.0, "data_wait": 0.25, "tflops": 0.002, "matmul_share": 0.5}
    assert 0.05 < memory_gb < 20
    telemetry.add_step(0.0)
    assert (telemetry.pop()["step_s"], eta_words(0.5, 7200)[:22]) == (6.0, "1:00:00 to go, done " + eta_words(0.5, 7200)[20:22])


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


def names(step: int) -> list[str]:
    return [f"{name}{step}" for name in "abc"]


def test_a_refused_step_ends_the_run_and_names_the_rows_of_the_first():
    refusals = SkippedSteps(3, 0, CPU)
    refusals.note(torch.tensor(False), torch.ones(3), 6)
    refusals.look(names)
    refusals.note(torch.tensor(True), torch.tensor([1.0, math.inf, math.nan]), 7)
    refusals.note(torch.tensor(True), torch.tensor([math.nan, 1.0, 1.0]), 8)
    with pytest.raises(NonFiniteError, match=r"the loss of iteration 7 is not finite; rows: b7, c7\. The step was not taken"):
        refusals.look(names)


def test_where_only_the_gradient_is_bad_all_rows_are_named():
    refusals = SkippedSteps(3, 0, CPU)
    refusals.note(torch.tensor(True), torch.ones(3), 7)
    with pytest.raises(NonFiniteError, match="the gradient of iteration 7 is not finite; rows: a7, b7, c7"):
        refusals.look(names)
    many = SkippedSteps(20, 0, CPU)
    many.note(torch.tensor(True), torch.full((20,), math.nan), 1)
    with pytest.raises(NonFiniteError, match="and 4 more"):
        many.look(lambda _step: [str(i) for i in range(20)])


def test_some_steps_may_be_left_out(caplog):
    refusals = SkippedSteps(3, 2, CPU)
    for step in (4, 5):
        refusals.note(torch.tensor(True), torch.tensor([1.0, math.nan, 1.0]), step)
        refusals.look(names)
    assert "rows: b4; 1 steps are left out so far, of 2 that may be" in caplog.text
    refusals.note(torch.tensor(True), torch.ones(3), 6)
    with pytest.raises(NonFiniteError):
        refusals.look(names)


def test_losses_by_time_are_drawn(tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    heights = [0.5, math.nan, 2.0]
    assert [bar.get_height() for bar in draw_bar_chart(heights).axes[0].patches] == [0.5, 0.0, 2.0]
    monkeypatch.setattr("mmaudio.trainer.tracker._bar_chart", draw_bar_chart)
    tracker = Tracker(tmp_path, writes=True)
    tracker.log("valid", {"loss": 1.25, "binned_loss": heights}, 3)
    tracker.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    (image,), (scalar,) = events.Images("valid/binned_loss"), events.Scalars("valid/loss")
    assert (image.step, image.width, image.height) == (3, 500, 300)
    assert (scalar.step, scalar.value) == (3, 1.25)
