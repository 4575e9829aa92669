"""Variants: each one trains, any duration is set by one call, weights load, a wrong variant is named."""

import pytest
import torch

from mmaudio.base.errors import UserError
from mmaudio.base.rng import CounterRng
from mmaudio.base.specs import AudioSpec
from mmaudio.flow.guidance import PresentConditions, PresentRows
from mmaudio.flow.loss import FlowBatch, FlowSettings, draw_flow, flow_loss
from mmaudio.network import VARIANTS, FlowTransformer, build_network, find_variant, load_network

NUM_ROWS = 2


def random_batch(network: FlowTransformer) -> FlowBatch:
    def random(tokens: int, width: int) -> torch.Tensor:
        return torch.randn(NUM_ROWS, tokens, width)

    latents = network.latent_seq_len, network.latent_mean.shape[-1]
    features = random(network.clip_seq_len, 1024), random(network.sync_seq_len, 768), random(network.text_seq_len, 1024)
    one_video = PresentRows.of(torch.tensor([True, False]))
    told = PresentConditions(one_video, one_video, PresentRows.of(torch.ones(NUM_ROWS, dtype=torch.bool)))
    return FlowBatch(random(*latents), random(*latents).abs(), *features, told)


@pytest.mark.parametrize(
    "variant", [pytest.param(name, marks=[pytest.mark.slow] if name.startswith(("medium", "large")) else []) for name in VARIANTS]
)
def test_a_shallow_twin_of_each_variant_trains(variant):
    """Two steps, since the first moves only what a zero output lets through."""
    torch.manual_seed(0)
    channels = find_variant(variant).audio().latent_channels
    statistics = {"latent_mean": torch.zeros(channels), "latent_std": torch.ones(channels)}
    network = build_network(variant, duration_s=1.0, depth=2, fused_depth=1, **statistics)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-2)
    batch = random_batch(network)
    draws = draw_flow(CounterRng(0, 0, torch.arange(NUM_ROWS)), network.latent_seq_len, channels)
    losses = []
    for _ in range(2):
        loss = flow_loss(network, batch, draws, FlowSettings()).loss_b.mean()
        losses.append(loss.item())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        losses.append(flow_loss(network, batch, draws, FlowSettings()).loss_b.mean().item())
    assert losses[2] < losses[1] < losses[0]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters() if p.requires_grad)


@pytest.mark.parametrize("mode", ["16k", "44k"])
def test_any_duration_by_one_call_or_by_argument(mode):
    one = build_network(f"nano_{mode}")
    torch.nn.init.normal_(one.final_layer.conv.weight)
    for duration_s in (1.0, 5.3, 9.99, 30.0):
        spec = AudioSpec(mode, duration_s)
        one.update_seq_lengths(spec.num_latents, spec.num_clip_frames, spec.num_sync_tokens)
        other = load_network(one.state_dict(), f"nano_{mode}", duration_s=duration_s)
        batch = random_batch(one)
        inputs = batch.a_mean[:1], batch.clip_features[:1], batch.sync_features[:1], batch.text_features[:1], torch.tensor([0.3])
        with torch.inference_mode():
            flow = one(*inputs)
            assert flow.abs().max() > 0
            assert torch.equal(flow, other(*inputs))
    assert build_network(f"nano_{mode}").latent_seq_len == AudioSpec(mode).num_latents  # nothing was changed for others


def test_the_final_layer_can_be_told_of_sync():
    state = build_network("nano_16k", duration_s=1.0).state_dict()
    torch.nn.init.normal_(state["final_layer.conv.weight"])
    torch.nn.init.normal_(state["final_layer.adaLN_modulation.1.weight"])
    networks = [load_network(state, "nano_16k", duration_s=1.0, final_cond=name) for name in ("global", "extended")]
    batch = random_batch(networks[0])
    with torch.inference_mode():
        inputs = batch.a_mean, batch.clip_features, batch.sync_features, batch.text_features, torch.tensor([0.2, 0.7])
        flows = [network(*inputs) for network in networks]
        conditions = networks[1].preprocess_conditions(*inputs[1:4])
        silent = networks[1].preprocess_conditions(inputs[1], torch.zeros_like(inputs[2]), inputs[3])
    assert not torch.allclose(*flows)
    assert not torch.allclose(conditions.sync_f, silent.sync_f)
    with pytest.raises(ValueError, match="final_cond is 'local'; want global or extended"):
        build_network("nano_16k", final_cond="local")


def test_weights_load_back_with_stale_keys_dropped():
    network = build_network("nano_16k", duration_s=2.0, latent_mean=torch.zeros(20), latent_std=torch.ones(20))
    state = network.state_dict() | {"t_embed.freqs": torch.zeros(3), "latent_rot": torch.zeros(1)}
    names = list(state)
    loaded = load_network(state, "nano_16k", duration_s=4.0)
    assert list(state) == names
    assert loaded.latent_seq_len == 125
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


def test_a_wrong_variant_is_refused_by_tensor_and_the_right_one_named():
    state = build_network("nano_16k").state_dict()
    with pytest.raises(UserError, match=r"latent_mean is \(1, 1, 20\), want \(1, 1, 40\).*weights of nano_16k"):
        load_network(state, "nano_44k")


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(UserError, match="did you mean 'small_16k'"):
        find_variant("smal_16k")


@pytest.mark.parametrize(("sizes", "message"), [({"num_heads": 7}, "hidden_dim is 64"), ({"fused_depth": 3}, "fused_depth is 3")])
def test_contradictory_sizes(sizes, message):
    with pytest.raises(ValueError, match=message):
        build_network("nano_16k", **sizes)
