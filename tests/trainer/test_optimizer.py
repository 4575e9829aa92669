"""Optimizer and schedule together: the four golden steps; and the optimizer's state across a save."""

import numpy as np
import pytest
import torch

from mmaudio.base.errors import UserError
from mmaudio.flow.loss import flow_loss
from mmaudio.trainer.lr_schedule import Schedule
from mmaudio.trainer.optimizer import OptimizerStep, build_optimizer, load_optimizer_
from tests.flow.test_golden_training import SETTINGS, case  # noqa: F401 - a fixture


@pytest.mark.parametrize("scaled", [False, True])
def test_four_golden_steps(case, scaled):  # noqa: F811
    network, batch, draws, golden = case
    optimizer = build_optimizer(network, learning_rate=1e-3, weight_decay=1e-2, amp=True)
    optimizer_step, schedule = OptimizerStep(network, optimizer, 1.0, scaled=scaled), Schedule("constant", 1e-3, 2, (), 0.1, 4)
    trained = [p for p in network.parameters() if p.requires_grad]
    start = [p.detach().clone() for p in trained]
    for step in range(4):
        schedule.set_lr_(optimizer, step)
        assert schedule.learning_rate(step) == pytest.approx(golden["steps_lr"][step], rel=1e-12)
        optimizer_step.zero_grad()
        loss = flow_loss(network, batch, draws, SETTINGS).loss_b.mean()
        optimizer_step.backward(loss)
        grad_norm = optimizer_step.step().grad_norm
        assert loss.item() == pytest.approx(golden["steps_loss"][step], rel=1e-3)
        assert grad_norm.item() == pytest.approx(golden["steps_grad_norm"][step], rel=1e-3)
        if step in (0, 3):
            moved = [(p.detach() - s).norm().item() for p, s in zip(trained, start, strict=True)]
            np.testing.assert_allclose(moved, golden[f"steps_delta_norm_after_{step + 1}"], rtol=1e-3)


def toy_optimizer(num_parameters: int, learning_rate: float = 1e-3) -> torch.optim.AdamW:
    module = torch.nn.ParameterList([torch.ones(2) for _ in range(num_parameters)])
    return build_optimizer(module, learning_rate=learning_rate, weight_decay=0.0, amp=False)


def test_state_has_the_published_layout_and_todays_rates(tmp_path):
    first = toy_optimizer(2)
    for parameter in first.param_groups[0]["params"]:
        parameter.grad = torch.ones(2)
    first.step()
    torch.save(first.state_dict(), tmp_path / "optimizer.pth")
    saved = torch.load(tmp_path / "optimizer.pth", weights_only=True)
    keys = "lr weight_decay betas eps amsgrad maximize foreach capturable differentiable fused decoupled_weight_decay initial_lr params"
    assert set(saved["param_groups"][0]) == set(keys.split())
    assert set(saved["state"][0]) == {"step", "exp_avg", "exp_avg_sq"}
    second = toy_optimizer(2, learning_rate=5e-4)
    load_optimizer_(second, saved, second.param_groups[0]["params"])
    assert second.param_groups[0]["lr"] == 5e-4
    assert torch.equal(second.state_dict()["state"][1]["exp_avg"], first.state_dict()["state"][1]["exp_avg"])
    third = toy_optimizer(3)
    with pytest.raises(UserError, match="holds 2 parameters, this run trains 3"):
        load_optimizer_(third, saved, third.param_groups[0]["params"])
