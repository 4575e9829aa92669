"""The network against numbers of the published implementation (tiny v1 and v2)."""

import json

import numpy as np
import pytest
import torch

from mmaudio.flow.guidance import guided
from mmaudio.flow.ode import solve
from mmaudio.network import VARIANTS, FlowTransformer, build_network
from mmaudio.network.layers import rotate, rotation_table
from tests.golden.fill import GOLDEN, error, fill_, given

TINY = {
    "latent_dim": 20,
    "clip_dim": 96,
    "sync_dim": 80,
    "text_dim": 112,
    "hidden_dim": 128,
    "depth": 4,
    "fused_depth": 2,
    "num_heads": 2,
    "latent_seq_len": 63,
    "clip_seq_len": 16,
    "sync_seq_len": 40,
}
TOLERANCE = 1e-4
PUBLISHED_CONDITIONS = ("clip_f", "sync_f", "text_f", "clip_f_c", "text_f_c")


@pytest.fixture(params=["v1", "v2"], scope="module")
def flavour(request):
    network = build_network(None, **TINY, v2=request.param == "v2").eval()
    fill_(network)
    return network, np.load(GOLDEN / f"net_tiny_{request.param}.npz")


def inputs():
    return given("tiny/clip_f", 2, 16, 96), given("tiny/sync_f", 2, 40, 80), given("tiny/text_f", 2, 77, 112)


@torch.inference_mode()
def test_velocity_conditions_and_blocks(flavour):
    network, golden = flavour
    seen = {}
    for name, block in [
        ("joint0", network.joint_blocks[0]),
        ("joint_last", network.joint_blocks[1]),
        ("fused_last", network.fused_blocks[1]),
    ]:
        block.register_forward_hook(lambda _m, _i, out, name=name: seen.update({name: out}))
    flow = network(given("tiny/latent", 2, 63, 20), *inputs(), torch.from_numpy(golden["t"]))
    assert error(flow, golden["flow"]) < TOLERANCE
    assert error(seen["joint_last"].latent, golden["joint_last_latent"]) < TOLERANCE
    assert error(seen["fused_last"], golden["fused_last_latent"]) < TOLERANCE
    for stream in ("latent", "clip", "text"):
        assert error(getattr(seen["joint0"], stream), golden[f"joint0_{stream}"]) < TOLERANCE
    conditions = network.preprocess_conditions(*inputs())
    for name in PUBLISHED_CONDITIONS:
        assert error(getattr(conditions, name), golden[f"cond_{name}"]) < TOLERANCE


@torch.inference_mode()
def test_null_conditions(flavour):
    network, golden = flavour
    empty = network.empty_conditions()
    for name in PUBLISHED_CONDITIONS:
        want = golden[f"empty_{name}"]
        assert error(getattr(empty, name).reshape(want.shape), want) < TOLERANCE
    negative = network.empty_conditions(given("tiny/neg_text_f", 2, 77, 112))
    assert error(negative.text_f_c, golden["empty_neg_text_f_c"]) < TOLERANCE


def velocities(network: FlowTransformer, negative: bool):
    conditions = network.preprocess_conditions(*inputs())
    null = network.empty_conditions(given("tiny/neg_text_f", 2, 77, 112) if negative else None).expand(2)
    return tuple(lambda t, x, c=c: network.predict_flow(x, t * torch.ones(2), c) for c in (conditions, null))


@torch.inference_mode()
@pytest.mark.parametrize(
    ("key", "strength", "negative"), [("4p5_empty", 4.5, 0), ("4p5_neg", 4.5, 1), ("1p0_empty", 1, 0), ("0p5_empty", 0.5, 0)]
)
def test_guidance(flavour, key, strength, negative):
    network, golden = flavour
    velocity = guided(*velocities(network, bool(negative)), strength)
    got = velocity(torch.tensor(float(golden["guided_t"].item())), given("tiny/latent", 2, 63, 20))
    assert error(got, golden[f"guided_{key}"]) < TOLERANCE


@torch.inference_mode()
@pytest.mark.parametrize(
    ("key", "strength", "negative", "options"),
    [
        ("euler4_cfg4p5_empty", 4.5, 0, {}),
        ("euler4_cfg4p5_neg", 4.5, 1, {}),
        ("euler4_nocfg", 0, 0, {}),
        ("euler4_nocfg_sigma0p1", 0, 0, {"min_sigma": 0.1}),
        ("euler4_to_prior_nocfg", 0, 0, {"reverse": True}),
    ],
)
def test_euler(flavour, key, strength, negative, options):
    network, golden = flavour
    velocity = guided(*velocities(network, bool(negative)), strength)
    got = solve(velocity, given("tiny/x0", 2, 63, 20), num_steps=4, **options).x_bnc
    assert error(got, golden[key]) < TOLERANCE


@torch.inference_mode()
def test_normalisation_leaves_its_input_alone(flavour):
    network, golden = flavour
    latent = given("tiny/latent", 2, 63, 20)
    assert error(network.normalize(latent), golden["normalized_latent"]) < TOLERANCE
    assert error(network.unnormalize(latent), golden["unnormalized_latent"]) < TOLERANCE
    assert torch.equal(latent, given("tiny/latent", 2, 63, 20))


@torch.inference_mode()
def test_another_duration(flavour):
    network, golden = flavour
    network.update_seq_lengths(32, 8, 16)
    conditions = given("tiny/clip_f_1s", 2, 8, 96), given("tiny/sync_f_1s", 2, 16, 80), given("tiny/text_f", 2, 77, 112)
    flow = network(given("tiny/latent_1s", 2, 32, 20), *conditions, torch.from_numpy(golden["t"]))
    network.update_seq_lengths(63, 16, 40)
    assert error(flow, golden["flow_1s"]) < TOLERANCE


def test_rotation_and_time_tables():
    golden = np.load(GOLDEN / "rope_time.npz")
    for case in "abc":
        length, width, scale = golden[f"args_{case}"]
        table = rotation_table(int(length), int(width), float(scale))
        assert error(table[..., 0], golden[f"rot_{case}"][0, :, :, 0, 0]) < 1e-6
        assert error(table[..., 1], golden[f"rot_{case}"][0, :, :, 1, 0]) < 1e-6
        assert error(rotate(given(f"rope/x_{case}", 2, 3, int(length), int(width)), table), golden[f"applied_{case}"]) < 1e-6
    for version in ("v1", "v2"):
        network = build_network(None, **TINY, v2=version == "v2")
        fill_(network)
        assert error(network.t_embed(torch.from_numpy(golden["t"])), golden[f"t_embed_tiny_{version}"]) < TOLERANCE


@pytest.mark.parametrize("variant", [name for name in VARIANTS if not name.startswith(("tiny", "nano"))])
def test_parameters_of_the_published_variants(variant):
    with torch.device("meta"):
        network = build_network(variant)
    manifest = json.loads((GOLDEN / f"network_{variant}.json").read_text())
    entries = manifest if isinstance(manifest, list) else manifest["entries"]
    trainable = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    got = [[name, list(tensor.shape), str(tensor.dtype), name in trainable] for name, tensor in network.state_dict().items()]
    assert [row[:2] for row in got] == [row[:2] for row in entries]
    assert [row[3] for row in got] == [row[3] for row in entries]
    assert list(network.state_dict()) == [name for name, _ in network.named_parameters()]


def test_a_new_network_returns_zero_and_a_cast_keeps_its_tables():
    network = build_network("nano_16k", duration_s=2.0, latent_mean=torch.zeros(20), latent_std=torch.ones(20))
    conditions = torch.randn(1, 16, 1024), torch.randn(1, 40, 768), torch.randn(1, 77, 1024)
    assert network(torch.randn(1, 63, 20), *conditions, torch.rand(1)).abs().max() == 0
    before = network.latent_rot.clone()
    assert torch.equal(network.to(torch.bfloat16).latent_rot, before)
