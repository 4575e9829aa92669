"""Post-hoc averages against the golden figures: exponents, decay, solved weights, synthesis, files."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from mmaudio.base.errors import UserError
from mmaudio.checkpoints.posthoc_ema import (
    Profile,
    decay,
    gamma_of,
    list_snapshots,
    save_snapshot,
    sigma_of,
    solve_weights,
    synthesize,
)
from tests.golden.fill import given

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
TOY = np.load(GOLDEN / "ema_toy.npz")
NAMES = ("weight", "bias", "frozen")
SIGMAS = (0.05, 0.1)


def test_exponents():
    np.testing.assert_allclose([gamma_of(sigma) for sigma in TOY["sigma_rels"]], TOY["gammas"], rtol=0, atol=1e-6)
    assert sigma_of(gamma_of(0.07)) == pytest.approx(0.07)


def test_decay():
    for column, sigma in enumerate(SIGMAS):
        betas = [decay(n, gamma_of(sigma)) for n in range(1, 41)]
        np.testing.assert_allclose(betas, TOY["betas_corrected"][:, column], rtol=0, atol=1e-6)
    for every in (1, 5):
        for corrected in (False, True):
            betas = [decay(n, gamma_of(0.05), every, corrected=corrected) for n in range(1, 41)]
            golden = TOY[f"betas_sigma0.05_every{every}_{'corrected' if corrected else 'plain'}"]
            np.testing.assert_allclose(betas, golden, rtol=0, atol=1e-6)


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


def test_solved_weights(folder):
    order = [(snapshot.index, snapshot.n) for snapshot in list_snapshots(folder)]
    golden_order = [tuple(row) for row in TOY["ckpt_order_index_step"].tolist()]
    profiles = [Profile(float(np.float32(gamma_of(SIGMAS[index]))), n) for index, n in golden_order]
    assert sorted(order) == sorted(golden_order)
    for key in (name for name in TOY.files if name.startswith("weights_s")):
        sigma, step = key.removeprefix("weights_s").split("_step")
        weights = solve_weights(profiles, Profile(float(np.float32(gamma_of(float(sigma)))), int(step)))
        np.testing.assert_allclose(weights, TOY[key], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("sigma", "step"), [(0.05, 40), (0.08, 40), (0.1, 40), (0.08, 30), (0.15, 40)])
def test_synthesis(folder, sigma, step):
    result = synthesize(folder, SIGMAS, sigma, step)
    assert list(result) == list(NAMES)
    for name in NAMES:  # `frozen` is no constant of the data by name, so it is scaled as upstream scales it
        golden = TOY[f"synth_s{sigma}_step{step}/{name}"]
        np.testing.assert_allclose(result[name].numpy(), golden, rtol=0, atol=1e-6 * np.abs(golden).max() * 4)


def test_constants_of_the_data_are_copied(tmp_path):
    for n in (1, 2):
        save_snapshot(tmp_path, 0, {"latent_mean": torch.full((1,), 3.0), "w": torch.full((1,), float(n))}, n)
    assert synthesize(tmp_path, (0.05,), 0.2)["latent_mean"].item() == 3.0


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
    with pytest.raises(UserError, match="newest is 40"):
        synthesize(folder, SIGMAS, 0.05, 41)
    with pytest.raises(UserError, match="only 1 sigmas"):
        synthesize(folder, SIGMAS[:1], 0.05)
    (tmp_path / "0.10.pt").write_bytes(b"torn")
    with pytest.raises(UserError, match=r"0\.10\.pt is no readable EMA snapshot"):
        synthesize(tmp_path, SIGMAS, 0.05)
