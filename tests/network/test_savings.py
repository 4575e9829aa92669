"""Work that repeats itself is done once: fewer operations than the plain way, and the same loss and gradients."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mmaudio.flow.guidance import ConditionDropout, DropoutDraws, PresentConditions, PresentRows, choose_present
from mmaudio.flow.loss import FlowBatch, FlowDraws, FlowSettings, flow_loss
from mmaudio.network import Conditions, FlowTransformer, build_network, find_variant
from tests.golden.fill import fill_

NUM_ROWS = 10
AUDIO_ROWS = 3  # rows without video: 30 %


class Plain(FlowTransformer):
    """The plain way: null features row by row before the projections, every modulation at the latents' rate."""

    def present_conditions(self, clip_f, sync_f, text_f, present):
        given = {"clip": clip_f, "sync": sync_f, "text": text_f}
        rows = (torch.where((getattr(present, n).source > 0)[:, None, None], f, self.null_features(n)) for n, f in given.items())
        conditions = self.preprocess_conditions(*rows)
        every_token = torch.arange(self.latent_seq_len, device=clip_f.device)
        return Conditions(conditions.clip_f, conditions.sync_f, conditions.text_f, conditions.clip_f_c, conditions.text_f_c, every_token)


def batch_for(network: FlowTransformer, device: str) -> tuple[FlowBatch, FlowDraws]:
    generator = torch.Generator().manual_seed(1)

    def random(*shape):
        return torch.randn(*shape, generator=generator).to(device)

    latents = NUM_ROWS, network.latent_seq_len, network.latent_mean.shape[-1]
    ones = torch.ones(NUM_ROWS)
    told = choose_present(torch.arange(NUM_ROWS) >= AUDIO_ROWS, ones.bool(), DropoutDraws(ones, ones, ones), ConditionDropout())
    batch = FlowBatch(
        random(*latents),
        random(*latents).abs(),
        random(NUM_ROWS, network.clip_seq_len, network.empty_clip_feat.shape[-1]),
        random(NUM_ROWS, network.sync_seq_len, network.empty_sync_feat.shape[-1]),
        random(NUM_ROWS, network.text_seq_len, network.empty_string_feat.shape[-1]),
        told.to(torch.device(device)),
    )
    return batch, FlowDraws(random(*latents), random(NUM_ROWS), random(*latents))


def flops(network: FlowTransformer) -> float:
    with FlopCounterMode(display=False) as counter:
        flow_loss(network, *batch_for(network, "meta"), FlowSettings()).loss_b.mean().backward()
    return counter.get_total_flops()


@pytest.mark.parametrize(("variant", "published_gflop"), [("small_44k", 246.7), ("medium_44k", 959.6), ("large_44k", 1582.5)])
def test_at_most_94_percent_of_the_operations(variant, published_gflop):
    sizes = find_variant(variant).sizes(8.0)
    with torch.device("meta"):
        networks = build_network(variant), Plain(**sizes)
    ours, plain = (flops(network) for network in networks)
    assert plain / NUM_ROWS / 1e9 == pytest.approx(published_gflop, rel=1e-3)
    assert ours <= 0.94 * plain


@pytest.mark.parametrize("v2", [False, True])
def test_loss_and_gradients_stay(v2):
    sizes = find_variant("nano_44k").sizes(2.0) | {"v2": v2}
    results = []
    for cls in (FlowTransformer, Plain):
        network = cls(**sizes)
        fill_(network)
        network.double()
        batch, draws = batch_for(network, "cpu")
        doubled = FlowBatch(*(getattr(batch, name).double() for name in list(FlowBatch.__dataclass_fields__)[:-1]), batch.present)
        loss = flow_loss(network, doubled, FlowDraws(draws.n1.double(), draws.z.double(), draws.x0.double()), FlowSettings()).loss_b
        loss.mean().backward()
        norms = torch.stack([p.grad.norm() for p in network.parameters() if p.requires_grad])
        results.append((loss.detach(), norms))
    (loss, norms), (plain_loss, plain_norms) = results
    assert torch.allclose(loss, plain_loss, rtol=1e-6, atol=0)
    assert torch.allclose(norms, plain_norms, rtol=1e-6, atol=1e-12)
    assert norms.norm() == pytest.approx(plain_norms.norm().item(), rel=1e-6)


def test_nobody_or_everybody_told():
    network = build_network("nano_16k", duration_s=1.0)
    fill_(network)
    features = torch.randn(2, 8, 1024), torch.randn(2, 16, 768), torch.randn(2, 77, 1024)
    nobody, everybody = (PresentRows.of(torch.tensor([flag, flag])) for flag in (False, True))
    told = network.present_conditions(*features, PresentConditions(everybody, everybody, everybody))
    want = network.preprocess_conditions(*features)
    null = network.present_conditions(*features, PresentConditions(nobody, nobody, nobody))
    for name in ("clip_f", "sync_f", "text_f", "clip_f_c", "text_f_c"):
        assert torch.allclose(getattr(told, name), getattr(want, name), atol=1e-5)
        assert torch.allclose(getattr(null, name), getattr(network.empty_conditions().expand(2), name), atol=1e-5)
    with torch.enable_grad():
        null.clip_f.sum().backward()
    assert all(p.grad is not None for p in network.clip_input_proj.parameters())  # no rank is left without a gradient
