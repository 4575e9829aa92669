"""Sampling from features: a row is the same whatever it is sampled beside, and nothing it lacks is taken from another."""

import pytest
import torch

from mmaudio.generate.sampler import ConditionBatch, SampleSettings, sample_latents
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
