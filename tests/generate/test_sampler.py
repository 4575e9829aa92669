"""Sampling from features: a row is the same whatever it is sampled beside, and nothing it lacks is taken from another."""

import pytest
import torch

from mmaudio.flow.guidance import guided
from mmaudio.flow.ode import solve
from mmaudio.generate.sampler import (
    ConditionBatch,
    SampleSettings,
    batch_conditions,
    null_conditions,
    sample,
    sample_latents,
    starting_noise,
)
from mmaudio.network import build_network

SETTINGS = SampleSettings(num_steps=3, cfg_strength=2.0, seed=5)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = build_network("nano_16k", duration_s=1.0, latent_mean=torch.ones(20), latent_std=torch.full((20,), 2.0))
    for block in (network.joint_blocks[0].latent_block, network.fused_blocks[0], network.final_layer):
        torch.nn.init.normal_(block.adaLN_modulation[1].weight, std=0.1)
    torch.nn.init.normal_(network.final_layer.conv.weight, std=0.1)
    torch.nn.init.normal_(network.empty_clip_feat)
    return network.eval()


@pytest.fixture(scope="module")
def features():
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(3, *shape, generator=generator) for shape in ((77, 1024), (8, 1024), (16, 768)))


def batch(features, rows, **more):
    text, clip, sync = (stream[rows] for stream in features)
    return ConditionBatch([f"id {row}" for row in rows], text, clip, sync, **more)


def equal_to_rounding(found, wanted):
    """To 1e-5 of the largest: for other numbers of rows a processor may add up in another order."""
    return (found - wanted).abs().max() < 1e-5 * wanted.abs().max()


def test_a_row_does_not_depend_on_its_neighbours(network, features):
    together = sample_latents(network, batch(features, [0, 1, 2]), SETTINGS)
    alone = [sample_latents(network, batch(features, [row]), SETTINGS) for row in range(3)]
    assert together.shape == (3, 32, 20)
    assert equal_to_rounding(together, torch.cat(alone))
    assert (together[0] - together[1]).abs().max() > 0.1


def test_a_row_without_video_beside_one_with(network, features):
    there = torch.tensor([True, False, True])
    mixed = sample_latents(network, batch(features, [0, 1, 2], video_exist=there), SETTINGS)
    with_video = sample_latents(network, batch(features, [0, 2]), SETTINGS)
    text_only = sample_latents(network, ConditionBatch(["id 1"], features[0][1:2]), SETTINGS)
    assert equal_to_rounding(mixed[[0, 2]], with_video)
    assert equal_to_rounding(mixed[1:2], text_only)


def test_seed_and_id_choose_the_noise(network, features):
    first = sample_latents(network, batch(features, [0]), SETTINGS)
    assert torch.equal(first, sample_latents(network, batch(features, [0]), SETTINGS))
    other = SampleSettings(num_steps=3, cfg_strength=2.0, seed=6)
    assert not torch.allclose(first, sample_latents(network, batch(features, [0]), other), atol=0.1)


def test_a_negative_text_of_one_row_serves_all(network, features):
    negative = features[0][2:3]
    one = sample_latents(network, batch(features, [0, 1], negative_text=negative), SETTINGS)
    each = sample_latents(network, batch(features, [0, 1], negative_text=negative.expand(2, -1, -1)), SETTINGS)
    assert equal_to_rounding(one, each)
    assert not torch.allclose(one, sample_latents(network, batch(features, [0, 1]), SETTINGS), atol=1e-3)


@pytest.fixture(scope="module")
def gentle_network():
    """One whose latents are of the scale of normalised ones, and whose velocity the adaptive solver follows soon."""
    torch.manual_seed(0)
    network = build_network("nano_16k", duration_s=1.0, latent_mean=torch.zeros(20), latent_std=torch.ones(20))
    for block in (network.joint_blocks[0].latent_block, network.fused_blocks[0], network.final_layer):
        torch.nn.init.normal_(block.adaLN_modulation[1].weight, std=0.02)
    torch.nn.init.normal_(network.final_layer.conv.weight, std=0.03)
    return network.eval()


@pytest.mark.parametrize(
    ("method", "num_steps", "num_rows", "wanted"),
    [("euler", 25, 4, 25), ("heun", 4, 4, 8), pytest.param("adaptive", 1, 2, None, marks=pytest.mark.slow)],
)
def test_batches_of_one_two_and_four_give_the_same(gentle_network, features, method, num_steps, num_rows, wanted):
    """To 1e-5 in float32, though a processor adds up other numbers of rows in another order."""
    four = tuple(torch.cat([stream, stream[:1].flip(1)]) for stream in features)
    settings = SampleSettings(num_steps, 4.5, method, seed=5)
    together = sample(gentle_network, batch(four, list(range(num_rows))), settings)
    for size in (1, 2) if num_rows == 4 else (1,):
        apart = [sample_latents(gentle_network, batch(four, list(range(i, i + size))), settings) for i in range(0, num_rows, size)]
        assert (together.x_bnc - torch.cat(apart)).abs().max() < 1e-5
    assert (together.x_bnc[0] - together.x_bnc[1]).abs().max() > 0.1
    counts = together.num_evaluations_b.tolist()
    assert counts == [wanted] * num_rows if wanted else all(50 < count < 1000 for count in counts)


def test_the_solvers_agree(gentle_network, features):
    exact = sample_latents(gentle_network, batch(features, [0]), SampleSettings(method="heun", num_steps=60))
    for method, num_steps, tolerance in (("midpoint", 30, 1e-3), ("heun", 30, 1e-3), ("euler", 60, 3e-2)):
        found = sample_latents(gentle_network, batch(features, [0]), SampleSettings(method=method, num_steps=num_steps))
        assert (found - exact).abs().max() < tolerance


def test_guidance_as_one_batch_equals_two_calls(network, features):
    mixed = batch(features, [0, 1, 2], video_exist=torch.tensor([True, False, True]), negative_text=features[0].flip(0))
    told, null = batch_conditions(network, mixed), null_conditions(network, mixed)

    def alone(conditions):
        return lambda t, x: network.predict_flow(x, t.expand(3), conditions)

    with torch.inference_mode():
        x = solve(guided(alone(told), alone(null), 4.5), starting_noise(network, mixed, 5), num_steps=25).x_bnc
    assert equal_to_rounding(sample_latents(network, mixed, SampleSettings(seed=5)), network.unnormalize(x))


def test_without_guidance_the_network_is_asked_for_half_as_much(network, features, monkeypatch):
    asked = []
    predict = network.predict_flow
    monkeypatch.setattr(network, "predict_flow", lambda x, t, conditions: asked.append(len(x)) or predict(x, t, conditions))
    for strength in (0.9, 1.0):
        sample_latents(network, batch(features, [0, 1]), SampleSettings(num_steps=2, cfg_strength=strength))
    assert asked == [2, 2, 4, 4]


def test_conditions_are_projected_once(network, features, monkeypatch):
    projected = []
    project = network.preprocess_conditions
    monkeypatch.setattr(network, "preprocess_conditions", lambda *given: projected.append(1) or project(*given))
    sample_latents(network, batch(features, [0, 1]), SampleSettings(num_steps=5))
    assert len(projected) == 2, "what is told, and the null"


def test_rows_may_have_seeds_of_their_own(network, features):
    mixed = sample_latents(network, batch(features, [0, 1, 2], seeds=[5, 6, 5]), SETTINGS)
    common = sample_latents(network, batch(features, [0, 1, 2]), SETTINGS)
    assert equal_to_rounding(mixed[[0, 2]], common[[0, 2]])
    assert (mixed[1] - common[1]).abs().max() > 0.1


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")  # of head norms, on a CPU alone
def test_half_precision_stays_close_and_states_are_float32(network, features):
    exact = sample_latents(network, batch(features, [0, 1]), SETTINGS)
    rough = sample_latents(network, batch(features, [0, 1]), SampleSettings(num_steps=3, cfg_strength=2.0, seed=5, amp=True))
    assert rough.dtype == torch.float32
    assert 0 < (rough - exact).abs().max() < 0.1 * exact.abs().max()
