"""The learning rate against the golden tables, and its saved state against torch's own schedulers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR, MultiStepLR, SequentialLR

from mmaudio.trainer.lr_schedule import Schedule

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "lr_schedules.npz"


def golden_schedule(kind: str) -> Schedule:
    return Schedule(kind, base_lr=2e-4, warmup_steps=5, steps=(20, 30), gamma=0.1, num_iterations=45)


@pytest.mark.parametrize("kind", ["constant", "step", "poly"])
def test_rates_equal_the_golden_tables(kind):
    rates = [golden_schedule(kind).learning_rate(iteration) for iteration in range(45)]
    np.testing.assert_allclose(rates, np.load(GOLDEN)[f"lr_{kind}"], rtol=0, atol=1e-12)


def test_without_warmup_the_first_iteration_has_the_full_rate():
    schedule = Schedule("step", 1.0, 0, (2,), 0.5, 10)
    assert [schedule.factor(iteration) for iteration in range(4)] == [1.0, 1.0, 0.5, 0.5]


def test_poly_stays_real_past_its_end():
    assert Schedule("poly", 1.0, 0, (), 0.1, 10).factor(15) == 0.0


def torch_sequence(kind: str) -> tuple[torch.optim.Optimizer, SequentialLR]:
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=2e-4)
    warmup = LambdaLR(optimizer, lambda x: (x + 1) / 6)
    laws = {"constant": lambda x: 1.0, "poly": lambda x: (1 - x / 45) ** 0.9}
    main = MultiStepLR(optimizer, [20, 30], 0.1) if kind == "step" else LambdaLR(optimizer, laws[kind])
    return optimizer, SequentialLR(optimizer, [warmup, main], milestones=[5])


@pytest.mark.parametrize("kind", ["constant", "step", "poly"])
@pytest.mark.parametrize("steps_done", [1, 4, 5, 6, 27])
def test_saved_state_is_the_one_torch_would_have(kind, steps_done):
    optimizer, sequence = torch_sequence(kind)
    for _ in range(steps_done):
        optimizer.step()
        sequence.step()
    ours, theirs = golden_schedule(kind).published_state(steps_done), sequence.state_dict()
    assert ours.keys() == theirs.keys()
    assert ours["last_epoch"] == steps_done
    for mine, wanted in zip(ours.pop("_schedulers"), theirs.pop("_schedulers"), strict=True):
        np.testing.assert_allclose(mine.pop("_last_lr"), wanted.pop("_last_lr"), rtol=1e-12)
        assert mine == wanted
    np.testing.assert_allclose(ours.pop("_last_lr"), theirs.pop("_last_lr"), rtol=1e-12)
    assert ours == theirs


def test_torch_continues_from_our_state(tmp_path):
    torch.save(golden_schedule("step").published_state(22), tmp_path / "scheduler.pth")
    optimizer, sequence = torch_sequence("step")
    optimizer.step()
    sequence.load_state_dict(torch.load(tmp_path / "scheduler.pth", weights_only=True))
    for group in optimizer.param_groups:  # the optimizer's own state carries the rate
        group["lr"] = sequence.get_last_lr()[0]
    for _ in range(4):
        optimizer.step()
        sequence.step()
    np.testing.assert_allclose(sequence.get_last_lr(), golden_schedule("step").learning_rate(26), rtol=1e-12)
