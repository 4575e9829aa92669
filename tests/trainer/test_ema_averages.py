"""The running averages against the golden toy run."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mmaudio.checkpoints.ema_snapshots import list_snapshots, save_snapshots, synthesize
from mmaudio.trainer.ema_averages import PowerAverages, flatten_parameters_
from tests.golden.fill import given

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
TOY = np.load(GOLDEN / "ema_toy.npz")
LAYOUT = json.loads((GOLDEN / "ema_layout.json").read_text())
START = {"weight": given("ema/weight", 3, 4), "bias": given("ema/bias", 4), "frozen": given("ema/frozen", 2, 2)}


def toy() -> nn.Module:
    module = nn.Module()
    for name, value in START.items():
        module.register_parameter(name, nn.Parameter(value.clone(), requires_grad=name != "frozen"))
    return module


def move(module: nn.Module, n: int) -> None:
    """Put the toy's parameters where they are before update n."""
    with torch.no_grad():
        module.weight.copy_(START["weight"] * (1 + 0.05 * n) + np.sin(n / 7))
        module.bias.copy_(START["bias"] + 0.01 * n * n)


def assert_golden(average: dict[str, torch.Tensor], prefix: str) -> None:
    for name, tensor in average.items():
        if f"{prefix}/{name}" in TOY.files:
            golden = TOY[f"{prefix}/{name}"]
            np.testing.assert_allclose(tensor.numpy(), golden, rtol=0, atol=2e-6 * np.abs(golden).max())


def test_averages_equal_the_golden_run(tmp_path):
    module = toy()
    averages = PowerAverages(module.state_dict(), (0.05, 0.1))
    for n in range(1, 41):
        move(module, n)
        averages.follow()
        for index in (0, 1):
            assert_golden(averages.averages[index], f"ema{index}_after_{n}")
        if n % 10 == 0:
            save_snapshots(tmp_path, averages.averages, n)
    assert averages.updates_done == 40
    assert {snapshot.path.name for snapshot in list_snapshots(tmp_path)} == set(
        json.loads((GOLDEN / "ema_layout.json").read_text())["files"]
    )
    for sigma, step in ((0.05, 40), (0.08, 40), (0.08, 30), (0.15, 40)):
        assert_golden(synthesize(tmp_path, (0.05, 0.1), sigma, step), f"synth_s{sigma}_step{step}")


def test_in_one_block_it_is_one_operation_with_the_same_result():
    apart, together = toy(), toy()
    flatten_parameters_(together)
    assert len({tensor.untyped_storage().data_ptr() for tensor in together.state_dict().values()}) == 1
    for name, tensor in apart.state_dict().items():
        assert torch.equal(together.state_dict()[name], tensor)
    many, one = (PowerAverages(module.state_dict(), (0.05, 0.1)) for module in (apart, together))
    for n in range(1, 9):
        for module, averages in ((apart, many), (together, one)):
            move(module, n)
            averages.follow()
    assert len(one._followers[0]) == 1
    for mine, theirs in zip(one.averages, many.averages, strict=True):
        assert mine.keys() == theirs.keys()
        for name in mine:
            torch.testing.assert_close(mine[name], theirs[name], rtol=1e-6, atol=1e-7)
    again = PowerAverages(together.state_dict(), (0.05, 0.1))
    again.load_state_dict(one.state_dict())
    assert all(torch.equal(a[name], b[name]) for a, b in zip(again.averages, one.averages, strict=True) for name in a)


def test_updates_may_be_sparse():
    module = toy()
    averages = PowerAverages(module.state_dict(), (0.1,), update_every=5)
    for n in range(1, 24):
        move(module, n)
        averages.follow()
    assert_golden(averages.averages[0], "every5_sigma0.1_after_23")


def test_state_has_the_published_layout_and_continues(tmp_path):
    module = toy()
    averages = PowerAverages(module.state_dict(), (0.05, 0.1))
    for n in range(1, 41):
        move(module, n)
        averages.follow()
    layout = json.loads((GOLDEN / "ema_layout.json").read_text())["full_state_entries"]
    state = averages.state_dict()
    assert [entry[0] for entry in layout] == list(state)
    assert [state[entry[0]] for entry in layout if isinstance(entry[1], dict)] == [
        entry[1] for entry in layout if isinstance(entry[1], dict)
    ]
    torch.save(state, tmp_path / "state.pth")
    other = PowerAverages(module.state_dict(), (0.05, 0.1))
    other.load_state_dict(torch.load(tmp_path / "state.pth", weights_only=True))
    move(module, 41)
    averages.follow()
    other.follow()
    assert other.updates_done == 41
    for mine, theirs in zip(averages.averages, other.averages, strict=True):
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_other_states_are_refused():
    averages = PowerAverages(toy().state_dict(), (0.05, 0.1))
    one = PowerAverages(toy().state_dict(), (0.05,)).state_dict()
    with pytest.raises(ValueError, match="holds 1 averages"):
        averages.load_state_dict(one)
    with pytest.raises(ValueError, match="holds 2 averages; these settings want 1"):
        PowerAverages(toy().state_dict(), (0.05,)).load_state_dict(averages.state_dict())
    with pytest.raises(ValueError, match="differs in bias"):
        PowerAverages({"w": torch.zeros(1)}, (0.05,)).load_state_dict(one)
