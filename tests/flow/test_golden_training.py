"""One training iteration and four optimizer steps against numbers of the published implementation."""

import numpy as np
import pytest
import torch

from mmaudio.flow.guidance import ConditionDropout, DropoutDraws, choose_present
from mmaudio.flow.loss import FlowBatch, FlowDraws, FlowSettings, bin_by_time, flow_loss
from mmaudio.network import build_network
from tests.golden.fill import GOLDEN, error, fill_, given
from tests.network.test_golden_network import TINY

SETTINGS = FlowSettings(nulls=ConditionDropout(probability=0.35))


@pytest.fixture(params=["v1", "v2"])
def case(request):
    golden = np.load(GOLDEN / f"train_tiny_{request.param}.npz")
    network = build_network(None, **TINY, v2=request.param == "v2")
    fill_(network)
    u_video, u_text = (torch.from_numpy(golden[key]) for key in ("u_video", "u_text"))
    exist = (torch.from_numpy(golden[key]).bool() for key in ("video_exist", "text_exist"))
    batch = FlowBatch(
        a_mean=given("tiny/train_a_mean", 4, 63, 20),
        a_std=0.1 * given("tiny/train_a_std", 4, 63, 20).abs(),
        clip_features=given("tiny/train_clip_f", 4, 16, 96),
        sync_features=given("tiny/train_sync_f", 4, 40, 80),
        text_features=given("tiny/train_text_f", 4, 77, 112),
        present=choose_present(*exist, DropoutDraws(u_video, 1 - u_video, u_text), SETTINGS.nulls),
    )
    stored = {"n1": "a_randn", "z": "z_t", "x0": "x0"}
    draws = FlowDraws(**{name: torch.from_numpy(golden[key]) for name, key in stored.items()})
    return network, batch, draws, golden


def test_loss_and_gradients(case):
    network, batch, draws, golden = case
    for name in ("clip", "sync", "text"):
        rows = torch.cat([network.null_features(name), getattr(batch, f"{name}_features")[getattr(batch.present, name).rows]])
        reached = rows[getattr(batch.present, name).source]
        assert error(reached.flatten(1).norm(dim=1), golden[f"{name}_row_norm"]) < 1e-4
    result = flow_loss(network, batch, draws, SETTINGS)
    assert error(result.t_b, golden["t"]) < 1e-6
    assert error(result.loss_b, golden["loss"]) < 1e-4
    result.loss_b.mean().backward()
    parameters = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    assert [name for name, _ in parameters] == list(golden["param_names"])
    norms = np.array([p.grad.norm().item() for _, p in parameters])
    assert np.abs(norms - golden["grad_norm"]).max() <= 1e-3 * golden["grad_norm"].max()
    assert np.allclose(norms, golden["grad_norm"], rtol=1e-3, atol=1e-6)
    for key in golden.files:
        if key.startswith("grad/"):
            assert error(dict(parameters)[key.removeprefix("grad/")].grad, golden[key]) < 1e-3
    bins = bin_by_time(result.loss_b.detach(), result.t_b)
    assert error(bins.total, golden["binned_sum"]) < 1e-4
    assert error(bins.count, golden["binned_count"].astype(np.float64)) == 0


def test_four_steps(case):
    network, batch, draws, golden = case
    trained = [p for p in network.parameters() if p.requires_grad]
    start = [p.detach().clone() for p in trained]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, betas=(0.9, 0.95), eps=1e-6, weight_decay=1e-2)
    for step, lr in enumerate(golden["steps_lr"]):
        optimizer.param_groups[0]["lr"] = float(lr)
        loss = flow_loss(network, batch, draws, SETTINGS).loss_b.mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        assert abs(loss.item() / golden["steps_loss"][step] - 1) < 1e-3
        assert abs(norm.item() / golden["steps_grad_norm"][step] - 1) < 1e-3
        if step in (0, 3):
            moved = np.array([(p.detach() - s).norm().item() for p, s in zip(trained, start, strict=True)])
            assert np.allclose(moved, golden[f"steps_delta_norm_after_{step + 1}"], rtol=1e-3)
