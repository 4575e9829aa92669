"""The same steps on any number of processes, in parts, and with shared parameters."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import torchrun
from tests.trainer.tiny_stores import write_tiny_data

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Five steps on so many processes, each with so many threads; once for all tests that want the same."""
    data = write_tiny_data(tmp_path_factory.mktemp("data"))
    done: dict[str, dict[str, Any]] = {}

    def five_steps(processes: int, **changes: object) -> dict[str, Any]:
        words = json.dumps({"processes": processes, **changes}, sort_keys=True)
        if words not in done:
            out = Path(tmp_path_factory.mktemp("out")) / "five.pth"
            ended = torchrun("-m", "tests.trainer.steps", data, out, json.dumps(changes), processes=processes, OMP_NUM_THREADS="1")
            assert ended.returncode == 0, ended.stderr
            done[words] = torch.load(out, weights_only=True)
        return done[words]

    return five_steps


def assert_same_weights(one: dict[str, Any], other: dict[str, Any], tolerance: float) -> None:
    """Largest difference of any weight, relative to the largest value of its tensor."""
    assert one["weights"].keys() == other["weights"].keys()
    for name, tensor in one["weights"].items():
        assert tensor.dtype == other["weights"][name].dtype
        scale = max(tensor.abs().max().item(), 1e-3)
        assert (tensor - other["weights"][name]).abs().max().item() <= tolerance * scale, name


def losses(ended: dict[str, Any], name: str = "train/loss") -> list[float]:
    return [line[name] for line in ended["metrics"] if name in line]


@pytest.mark.parametrize(("processes", "micro_batch"), [(2, None), (1, 4), (2, 2), (2, 3)])
def test_a_batch_in_parts_is_the_same_batch(run, processes, micro_batch):
    whole, parts = run(1, double=True), run(processes, double=True, micro_batch=micro_batch)
    assert next(iter(whole["weights"].values())).dtype == torch.float64
    assert_same_weights(whole, parts, 1e-10)


@pytest.mark.parametrize("micro_batch", [None, 2])
def test_shared_parameters_learn_the_same(run, micro_batch):
    whole, shared = run(1, double=True), run(2, double=True, parallel="fsdp", micro_batch=micro_batch)
    assert_same_weights(whole, shared, 1e-10)
    for name in ("valid/loss", "train/loss", "train/grad_norm"):
        assert losses(shared, name) == pytest.approx(losses(whole, name), rel=1e-10)


@pytest.mark.parametrize("processes", [2, 4])
def test_rows_noise_and_dropout_are_the_same(run, processes):
    alone, many = run(1), run(processes)
    rows = {(step, place): name for step, places, names, _ in alone["noted"] for place, name in zip(places, names, strict=True)}
    lost = {(step, place): loss for step, places, _, losses in alone["noted"] for place, loss in zip(places, losses, strict=True)}
    assert len(rows) == 5 * 8
    seen = set()
    for step, places, names, found in many["noted"]:
        for place, name, loss in zip(places, names, found, strict=True):
            assert rows[step, place] == name
            assert loss == pytest.approx(lost[step, place], rel=1e-5)  # other noise, or another condition, is another loss
            seen.add((step, place))
    assert seen == rows.keys()
    assert losses(many) == pytest.approx(losses(alone), rel=1e-5)


@pytest.mark.parametrize("processes", [2, 3])
def test_validation_is_one_number(run, processes):
    """Before the first step and after the last; batches are of 6, 3 and 2 rows."""
    alone, many = run(1, batch_size=6), run(processes, batch_size=6)
    assert len(losses(alone, "valid/loss")) == 2
    assert losses(many, "valid/loss")[0] == pytest.approx(losses(alone, "valid/loss")[0], rel=1e-6)
    assert losses(many, "valid/loss")[1] == pytest.approx(losses(alone, "valid/loss")[1], rel=1e-5)
