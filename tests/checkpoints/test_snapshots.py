"""Files of stored averages: what is synthesised of them against the golden figures, and which are given up for disk space."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from mmaudio.base.errors import UserError
from mmaudio.checkpoints.ema_snapshots import (
    GB,
    SnapshotFolder,
    check_budget,
    list_snapshots,
    save_snapshot,
    steps_to_remove,
    synthesize,
    thin_snapshots,
)
from mmaudio.checkpoints.posthoc_ema import Profile, decay, fit_profile, gamma_of
from tests.golden.fill import given

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
TOY = np.load(GOLDEN / "ema_toy.npz")
NAMES = ("weight", "bias", "frozen")
SIGMAS = (0.05, 0.1)


def toy_snapshots(folder: Path) -> Path:
    """Snapshots of the toy run every 10 updates, rebuilt from the golden decays and the golden path."""
    start = {name: given(f"ema/{name}", *shape) for name, shape in zip(NAMES, ((3, 4), (4,), (2, 2)), strict=True)}
    for index, sigma in enumerate(SIGMAS):
        average: dict[str, torch.Tensor] = {}
        for n in range(1, 41):
            weight = start["weight"] * (1 + 0.05 * n) + math.sin(n / 7)
            tensors = {"weight": weight, "bias": start["bias"] + 0.01 * n * n, "frozen": start["frozen"]}
            keep = decay(n, gamma_of(sigma))
            average = {name: torch.lerp(average.get(name, value), value, 1 - keep) for name, value in tensors.items()}
            if n % 10 == 0:
                save_snapshot(folder, index, average, n)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return toy_snapshots(tmp_path_factory.mktemp("ema"))


# ---- synthesis


@pytest.mark.parametrize(("sigma", "step"), [(0.05, 40), (0.08, 40), (0.1, 40), (0.08, 30), (0.15, 40)])
def test_synthesis(folder, sigma, step):
    result = synthesize(folder, SIGMAS, sigma, step)
    assert list(result) == list(NAMES)
    for name in NAMES:  # `frozen` is no constant of the data by name, so it is scaled as upstream scales it
        golden = TOY[f"synth_s{sigma}_step{step}/{name}"]
        np.testing.assert_allclose(result[name].numpy(), golden, rtol=0, atol=1e-6 * np.abs(golden).max() * 4)


def test_several_in_one_reading_equal_each_alone(folder, monkeypatch):
    found = SnapshotFolder.open(folder, SIGMAS)
    opened = []
    load = torch.load
    monkeypatch.setattr(torch, "load", lambda path, **how: opened.append(path.name) or load(path, **how))
    both = found.sums([found.fit(0.08), found.fit(0.15, 30)])
    assert sorted(opened) == sorted([*(path.name for path in folder.iterdir()), "0.40.pt"]), "each once, and the newest for its constants"
    for together, alone in zip(both, (synthesize(folder, SIGMAS, 0.08), synthesize(folder, SIGMAS, 0.15, 30)), strict=True):
        assert all(torch.equal(together[name], alone[name]) for name in NAMES)


def test_a_stored_average_is_itself(folder):
    stored = torch.load(folder / "1.30.pt", weights_only=True)
    result = synthesize(folder, SIGMAS, 0.1, 30)
    assert all(torch.equal(result[name], stored[f"ema_model.{name}"]) for name in ("weight", "bias"))


def test_constants_are_copied(tmp_path):
    for n in (1, 2):
        tensors = {"latent_mean": torch.full((1,), 3.0), "a.w": torch.full((1,), 5.0), "b.w": torch.full((1,), 5.0)}
        save_snapshot(tmp_path, 0, tensors, n)
    result = synthesize(tmp_path, (0.05,), 0.2)
    assert result["latent_mean"].item() == 3.0
    assert result["a.w"].item() == result["b.w"].item() != 5.0, "the weights of a sum do not add up to 1"
    frozen = synthesize(tmp_path, (0.05,), 0.2, constants=("latent_mean", "a.*"))
    assert (frozen["a.w"].item(), frozen["b.w"].item()) == (5.0, result["b.w"].item())


def test_files_are_the_published_ones(folder):
    layout = json.loads((GOLDEN / "ema_layout.json").read_text())
    assert sorted(path.name for path in folder.iterdir()) == sorted(layout["files"])
    entries = torch.load(folder / layout["files"][0], weights_only=True)
    for (name, *golden), (own_name, value) in zip(layout["checkpoint_entries"], entries.items(), strict=True):
        assert name == own_name
        assert golden == ([value] if isinstance(value, dict) else [list(value.shape), str(value.dtype)])


def test_what_cannot_be_synthesised_is_said(folder, tmp_path):
    with pytest.raises(UserError, match="no EMA snapshots"):
        synthesize(tmp_path, SIGMAS, 0.05)
    for n in (41, 25, 0, -10):
        with pytest.raises(UserError, match=f"no EMA snapshot of step {n} in .*; stored are 10, 20, 30, 40, and the newest is 40"):
            synthesize(folder, SIGMAS, 0.05, n)
    with pytest.raises(UserError, match="want more than 0 and less than"):
        synthesize(folder, SIGMAS, 0.3)
    with pytest.raises(UserError, match="only 1 sigmas"):
        synthesize(folder, SIGMAS[:1], 0.05)
    (tmp_path / "0.10.pt").write_bytes(b"torn")
    with pytest.raises(UserError, match=r"0\.10\.pt is no readable EMA snapshot"):
        synthesize(tmp_path, SIGMAS, 0.05)
    save_snapshot(tmp_path, 0, {"w": torch.zeros(3)}, 20)
    for other in ({"w": torch.zeros(2)}, {"v": torch.zeros(3)}):
        save_snapshot(tmp_path, 0, other, 10)
        with pytest.raises(UserError, match=r"0\.10\.pt and .*0\.20\.pt differ in w; move away"):
            synthesize(tmp_path, SIGMAS, 0.08)
    save_snapshot(tmp_path, 0, {"latent_rot": torch.zeros(1), "w": torch.zeros(3)}, 10)  # a buffer of early published networks
    assert list(synthesize(tmp_path, SIGMAS, 0.08)) == ["w"]


# ---- disk budget


def test_steps_to_remove():
    assert steps_to_remove([10, 20, 30], 1, 3) == []
    assert steps_to_remove([10, 20, 30, 40], 1, 3) == [10]
    assert steps_to_remove([20, 30, 40, 50, 60], 1, 4) == [30]
    assert steps_to_remove([60, 30, 50, 40, 20, 30], 1, 4.99) == [30], "order and repeats do not matter"
    assert steps_to_remove([20, 30, 40, 50, 60], 5, 15) == [30, 50]
    assert steps_to_remove([10, 20, 30], 1, 0) == [10, 20], "never the newest"
    assert steps_to_remove([], 1, 0) == []


def thinned(num_steps: int, num_kept: int) -> list[int]:
    """What is left of a run that decides anew after each snapshot."""
    steps: list[int] = []
    for n in range(5000, 5000 * num_steps + 1, 5000):
        steps = [step for step in [*steps, n] if step not in steps_to_remove([*steps, n], 1, num_kept)]
        assert len(steps) <= num_kept and steps[-1] == n
    return steps


def worst_fit(steps: list[int]) -> float:
    """The largest error of the fits of sigma 0.05 … 0.2 after the last step."""
    stored = [Profile.of(sigma, n) for sigma in SIGMAS for n in steps]
    return max(fit_profile(stored, Profile.of(sigma, steps[-1])).error for sigma in np.geomspace(0.05, 0.2, 7))


@pytest.mark.parametrize(("num_kept", "most"), [(24, 0.015), (12, 0.042), (6, 0.11), (3, 0.23)])
def test_what_is_kept_serves_synthesis(num_kept, most):
    steps = thinned(60, num_kept)
    assert len(steps) == num_kept
    error = worst_fit(steps)
    assert error < most
    assert error < 0.5 * worst_fit(list(range(300_000 - 5000 * (num_kept - 1), 300_001, 5000))) or num_kept == 3, (
        "half of keeping the newest"
    )
    spaced = sorted({round(5000 * 60 ** (index / (num_kept - 1)) / 5000) * 5000 for index in range(num_kept)})
    assert error < 0.6 * worst_fit(spaced), "and less than evenly spaced logarithms leave"


def test_thinning_removes_all_profiles_of_a_step(folder, tmp_path, caplog):
    toy_snapshots(tmp_path)
    size = 2 * (tmp_path / "0.10.pt").stat().st_size
    with caplog.at_level("INFO"):
        thin_snapshots(tmp_path, 4 * size / GB)
    assert len(list_snapshots(tmp_path)) == 8 and not caplog.text
    with caplog.at_level("INFO"):
        thin_snapshots(tmp_path, 3.5 * size / GB)
    assert {path.name for path in tmp_path.iterdir()} == {f"{index}.{n}.pt" for index in (0, 1) for n in (20, 30, 40)}
    assert "removed the EMA snapshots of step 10; kept are 20, 30, 40" in caplog.text
    assert all(torch.isfinite(tensor).all() for tensor in synthesize(tmp_path, SIGMAS, 0.08).values())


def test_a_budget_without_room_for_two_steps():
    check_budget(GB, 2.0)
    with pytest.raises(UserError, match=r"ema\.max_snapshots_gb is 1\.9, but .* take 1 GB .* at least 2, or ema\.enable=False"):
        check_budget(GB, 1.9)
    with pytest.raises(UserError, match=r"at least 0\.037,"):
        check_budget(18_200_000, 0.02)
