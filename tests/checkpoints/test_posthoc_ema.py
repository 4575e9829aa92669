"""Profiles of post-hoc averages against the golden figures: exponents, decay, solved weights, and what a fit leaves."""

from pathlib import Path

import numpy as np
import pytest

from mmaudio.base.errors import UserError
from mmaudio.checkpoints.posthoc_ema import WIDEST, Profile, check_sigma, decay, fit_profile, gamma_of, overlap, sigma_of

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
TOY = np.load(GOLDEN / "ema_toy.npz")
SIGMAS = (0.05, 0.1)


def test_exponents():
    np.testing.assert_allclose([gamma_of(sigma) for sigma in TOY["sigma_rels"]], TOY["gammas"], rtol=0, atol=1e-6)
    assert sigma_of(gamma_of(0.07)) == pytest.approx(0.07)
    assert sigma_of(0.0) == pytest.approx(WIDEST), "gamma 0 is the plain mean"


@pytest.mark.parametrize("sigma", [0.0, -0.05, 0.5, WIDEST, float("nan"), float("inf")])
def test_widths_out_of_range(sigma):
    with pytest.raises(UserError, match=r"sigma is .*; want more than 0 and less than 0\.2887"):
        check_sigma(sigma)


def test_decay():
    for column, sigma in enumerate(SIGMAS):
        betas = [decay(n, gamma_of(sigma)) for n in range(1, 41)]
        np.testing.assert_allclose(betas, TOY["betas_corrected"][:, column], rtol=0, atol=1e-6)
    for every in (1, 5):
        for corrected in (False, True):
            betas = [decay(n, gamma_of(0.05), every, corrected=corrected) for n in range(1, 41)]
            golden = TOY[f"betas_sigma0.05_every{every}_{'corrected' if corrected else 'plain'}"]
            np.testing.assert_allclose(betas, golden, rtol=0, atol=1e-6)


def test_overlap_is_the_integral_of_the_product():
    grid = (np.arange(200_000) + 0.5) / 200_000 * 60
    for a, b in ((Profile(3.0, 40), Profile(7.0, 60)), (Profile(7.0, 60), Profile(3.0, 40)), (Profile(2.0, 50), Profile(5.0, 50))):
        product = np.ones_like(grid)
        for profile in (a, b):  # (γ+1) t^γ / n^(γ+1) up to n, and 0 after it
            product *= np.where(grid <= profile.n, (profile.gamma + 1) * (grid / profile.n) ** profile.gamma / profile.n, 0)
        assert overlap(a, b) == pytest.approx(product.mean() * 60, rel=1e-4)


def test_solved_weights():
    profiles = [Profile.of(SIGMAS[index], step) for index, step in TOY["ckpt_order_index_step"].tolist()]
    keys = [name for name in TOY.files if name.startswith("weights_s")]
    assert keys
    for key in keys:
        sigma, step = key.removeprefix("weights_s").split("_step")
        weights = fit_profile(profiles, Profile.of(float(sigma), int(step))).weights
        np.testing.assert_allclose(weights, TOY[key], rtol=0, atol=1e-6)


def test_what_a_fit_leaves():
    stored = [Profile.of(sigma, n) for sigma in SIGMAS for n in (20, 30, 40)]
    exact = fit_profile(stored, stored[4])
    assert exact.error == 0 and exact.weights.tolist() == [0, 0, 0, 0, 1, 0]
    wanted = Profile.of(0.13, 40)
    fit = fit_profile(stored, wanted)
    grid = (np.arange(100_000) + 0.5) / 100_000 * 40
    shapes = [np.where(grid <= p.n, (p.gamma + 1) * (grid / p.n) ** p.gamma / p.n, 0) for p in (*stored, wanted)]
    rest = shapes[-1] - fit.weights @ np.stack(shapes[:-1])
    assert fit.error == pytest.approx(np.sqrt((rest**2).mean() / (shapes[-1] ** 2).mean()), rel=1e-3)
    assert fit_profile(stored[:1], wanted).error > fit_profile(stored[:4], wanted).error > fit.error
