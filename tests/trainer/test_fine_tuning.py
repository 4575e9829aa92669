"""Starting from weights: nothing but the weights is taken over, and a run that has begun is never begun again."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mmaudio.base.errors import Problems
from mmaudio.checkpoints.export import convert, weights_metadata, write_export
from mmaudio.checkpoints.load import load_weights, read_record
from mmaudio.distributed.ranks import Ranks
from mmaudio.settings.schema import TrainSettings
from mmaudio.trainer.checks import check_training
from mmaudio.trainer.flow_solver import FlowSolver
from mmaudio.trainer.tracker import read_metrics
from mmaudio.trainer.trainer import Trainer
from tests.trainer.tiny_runs import train
from tests.trainer.tiny_stores import tiny_settings, write_tiny_data


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> TrainSettings:
    return tiny_settings(write_tiny_data(tmp_path_factory.mktemp("data")), "tuned", num_iterations=4, log_text_interval=1, val_interval=0)


def run(settings: TrainSettings, folder: Path) -> None:
    assert train(settings, folder, Ranks(), torch.device("cpu"))


def problems_of(settings: TrainSettings, folder: Path) -> list[str]:
    problems = Problems()
    check_training(settings, folder, Ranks(), problems)
    return problems.sentences


@pytest.fixture(scope="module")
def first(base, tmp_path_factory) -> Path:
    """A run of four iterations at another rate, on other data, and its last weights exported."""
    folder = tmp_path_factory.mktemp("first")
    run(replace(base, exp_id="first", data=replace(base.data, train=("birds",)), learning_rate=1e-2), folder)
    weights, record = load_weights(folder / "first_last.pth"), read_record(folder / "first_last.pth")
    write_export(folder / "first.safetensors", convert(weights, torch.float32), weights_metadata(record, weights, "fp32"))
    return folder


@pytest.mark.parametrize("name", ["first_last.pth", "first.safetensors", "first_ckpt_last.pth"])
def test_nothing_but_the_weights_is_taken_over(base, first, tmp_path, name):
    settings = replace(base, weights=str(first / name))
    assert problems_of(settings, tmp_path) == []
    begun = Trainer(FlowSolver(settings, Ranks(), torch.device("cpu")), tmp_path).state
    weights = torch.load(first / "first_last.pth", weights_only=True)
    assert [name for name, tensor in begun.network.state_dict().items() if not torch.equal(tensor, weights[name])] == []
    assert begun.steps_done == 0
    assert begun.optimizer.state_dict()["state"] == {}
    assert [begun.schedule.learning_rate(step) for step in range(3)] == pytest.approx([1e-3 / 3, 2e-3 / 3, 1e-3])
    assert (begun.ema.updates_done, begun.ema.has_begun) == (0, False)
    for average in begun.ema.averages:
        assert all(torch.equal(tensor, weights[name]) for name, tensor in average.items())


def test_training_from_a_safetensors_file(base, first, tmp_path, caplog):
    settings = replace(base, weights=str(first / "first.safetensors"), num_iterations=1)
    with caplog.at_level("INFO"):
        run(settings, tmp_path)
    assert f"starting from the weights of {first}/first.safetensors" in caplog.text
    checkpoint = torch.load(tmp_path / "tuned_ckpt_last.pth", weights_only=True)
    assert (checkpoint["it"], checkpoint["scheduler"]["last_epoch"]) == (1, 1)
    assert {state["step"].item() for state in checkpoint["optimizer"]["state"].values()} == {1.0}
    assert checkpoint["ema"]["ema_models.0._extra_state"]["step"] == 1
    assert [(line["steps_done"], line["train/lr"]) for line in read_metrics(tmp_path)] == [(1, pytest.approx(1e-3 / 3))]


def test_a_run_that_has_begun_goes_on_and_says_so(base, first, tmp_path, caplog):
    weights = tmp_path / "start.pth"
    weights.write_bytes((first / "first_last.pth").read_bytes())
    settings = replace(base, weights=str(weights), num_iterations=1)
    run(settings, tmp_path)
    weights.unlink()  # it has done its part
    longer = replace(settings, num_iterations=2)
    assert problems_of(longer, tmp_path) == []
    with caplog.at_level("INFO"):
        run(longer, tmp_path)
    own = tmp_path / "tuned_ckpt_last.pth"
    assert f"continuing {own} after 1 iterations" in caplog.text
    assert f"weights={weights} is not read: only a run without a checkpoint starts from it" in caplog.text
    assert torch.load(own, weights_only=True)["it"] == 2
    assert problems_of(longer, tmp_path / "elsewhere") == [f"no file at {weights}"]


def test_bad_weights_are_refused_before_anything_starts(base, first, tmp_path):
    path = tmp_path / "torn.safetensors"
    path.write_bytes((first / "first.safetensors").read_bytes()[:-5])
    (sentence,) = problems_of(replace(base, weights=str(path)), tmp_path)
    assert sentence.startswith(f"{path} is no readable weights file: ")
    (sentence,) = problems_of(replace(base, checkpoint=str(first / "first.safetensors")), tmp_path)
    assert sentence.endswith(f"for weights alone use weights={first}/first.safetensors")
