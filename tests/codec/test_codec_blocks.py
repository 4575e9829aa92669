"""The layers of the VAE and the vocoders against numbers of the published implementation."""

import pytest
import torch
from torch import nn

from mmaudio.codec import mp_layers as magnitude
from mmaudio.codec import snake
from mmaudio.codec.mp_layers import is_normalised, mp_silu, mp_sum, normalise, normalise_weight
from mmaudio.codec.snake import ACTIVATIONS, AntiAliased, downsampled, kaiser_taps, snake_, upsampled
from mmaudio.codec.vae import posterior
from tests.golden.codec.published import filled, golden
from tests.golden.fill import error

TOLERANCE = 1e-5
BLOCKS = golden("blocks")
MP_X, MP_Y, X = (torch.from_numpy(BLOCKS[name]) for name in ("mp_x", "mp_y", "x"))


def anti_aliased(kind: str, scale: str) -> AntiAliased:
    """With the golden alpha and beta; those of a linear scale are their exponentials, so both compute the same."""
    act = ACTIVATIONS[kind](3, log_scale=scale == "log")
    for name, values in act.named_parameters():
        values.data = torch.from_numpy(BLOCKS[name]) if scale == "log" else torch.from_numpy(BLOCKS[name]).exp()
    return AntiAliased(act).requires_grad_(False)


@pytest.mark.parametrize("scale", ["log", "linear"])
@pytest.mark.parametrize("kind", ["snake", "snakebeta"])
def test_snakes(kind, scale):
    layer = anti_aliased(kind, scale)
    frequency_c1, height_c1 = (values_c[:, None] for values_c in layer.act.coefficients())
    assert error(snake_(X.clone(), frequency_c1, height_c1), BLOCKS[f"{kind}_{scale}_pointwise"]) < TOLERANCE
    assert error(layer(X), BLOCKS[f"{kind}_{scale}_antialiased"]) < TOLERANCE


def test_one_time_step_is_enough():
    assert error(anti_aliased("snakebeta", "log")(X[..., :1]), BLOCKS["antialiased_T1"]) < TOLERANCE


def test_filter():
    assert error(kaiser_taps().view(1, 1, 12), BLOCKS["up_filter"]) < 1e-6
    assert error(kaiser_taps().view(1, 1, 12), BLOCKS["down_filter"]) < 1e-6


@pytest.mark.parametrize(("num_steps", "key"), [(13, "up"), (1, "up_T1")])
def test_upsampling(num_steps, key):
    even, odd = upsampled(X[..., :num_steps].flatten(0, 1), kaiser_taps())
    inside = torch.stack((even, odd), dim=-1)[:, 3:-3]
    assert error(inside.reshape(2, 3, -1), BLOCKS[key]) < TOLERANCE


def test_downsampling():
    """Golden is an odd length; holding the last value once more makes it even and changes nothing."""
    held = nn.functional.pad(X.flatten(0, 1), (6, 7), mode="replicate")
    assert error(downsampled(held[:, 0::2], held[:, 1::2], kaiser_taps()).view(2, 3, 7), BLOCKS["down_of_x"]) < TOLERANCE


def test_blocks_of_rows_do_not_show(monkeypatch):
    layer = anti_aliased("snakebeta", "log")
    whole = layer(X)
    monkeypatch.setattr(snake, "CPU_BLOCK_ELEMENTS", 4 * X.shape[-1])
    assert torch.equal(layer(X), whole)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_snakes_in_short_types(dtype):
    """Parameters and filters are not rounded, nor is anything between input and output."""
    layer = anti_aliased("snakebeta", "log").to(dtype)
    assert {values.dtype for values in layer.state_dict().values()} == {torch.float32}
    got = layer(X.to(dtype))
    assert got.dtype == dtype
    assert torch.equal(got, anti_aliased("snakebeta", "log")(X.to(dtype).float()).to(dtype))


def test_magnitude_preserving_functions():
    assert error(mp_silu(MP_X), BLOCKS["mp_silu"]) < TOLERANCE
    assert error(normalise(MP_X, 1), BLOCKS["pixel_norm"]) < TOLERANCE
    assert error(mp_sum(MP_X, MP_Y), BLOCKS["mp_sum_t0.3"]) < TOLERANCE


def test_convolution_weights():
    raw = torch.from_numpy(BLOCKS["mp_w"])
    before = raw.clone()
    ready = normalise_weight(raw)
    assert torch.equal(raw, before)
    assert error(ready, BLOCKS["mp_w_normalised"]) < TOLERANCE
    convolution = magnitude.MPConv1d(6, 4, 3)
    convolution.weight = nn.Parameter(ready, requires_grad=False)
    assert error(convolution(MP_X, gain=1.5), BLOCKS["mp_conv_gain1.5"]) < TOLERANCE


def test_a_second_normalisation_is_no_small_matter_and_is_seen():
    raw = 68.0 * filled("conv1.weight", (64, 1536, 3))  # of magnitude 1, as training leaves it
    once = normalise_weight(raw)
    assert 0.005 < error(normalise_weight(once), once.numpy()) < 0.01
    assert is_normalised(once) and is_normalised(normalise_weight(once))
    assert not is_normalised(raw) and not is_normalised(raw / 68.0)


@pytest.mark.parametrize(
    ("key", "layer"),
    [
        ("resblock_6_10", magnitude.ResnetBlock1d(6, 10)),
        ("resblock_6_6", magnitude.ResnetBlock1d(6, 6)),
        ("attnblock_6", magnitude.AttnBlock1d(6)),
        ("upsample_6", magnitude.Upsample1d(6)),
        ("downsample_6", magnitude.Downsample1d(6)),
    ],
)
@torch.inference_mode()
def test_blocks(key, layer):
    ready = {name: normalise_weight(filled(name, tuple(weight.shape))) for name, weight in layer.state_dict().items()}
    layer.load_state_dict(ready, assign=True)
    assert error(layer(MP_X), BLOCKS[key]) < TOLERANCE


def test_posterior():
    mean, std = posterior(torch.from_numpy(BLOCKS["moments"]))
    assert error(mean, BLOCKS["dg_mean"]) < TOLERANCE
    assert error(std, BLOCKS["dg_std"]) < TOLERANCE
    assert error(2.0 * std.log(), BLOCKS["dg_logvar"]) < TOLERANCE  # the small ones count here
