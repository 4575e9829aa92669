"""Training checkpoints of the published system, made with torch's own optimizer and schedulers: theirs go on here, ours there."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, MultiStepLR, SequentialLR

from mmaudio.base.errors import Problems
from mmaudio.distributed.ranks import Ranks
from mmaudio.network import FlowTransformer, build_network
from mmaudio.settings.schema import EmaSettings, TrainSettings
from mmaudio.trainer.checks import check_training
from mmaudio.trainer.flow_solver import FlowSolver
from mmaudio.trainer.lr_schedule import Schedule
from mmaudio.trainer.tracker import read_metrics
from mmaudio.trainer.train_state import TrainState
from mmaudio.trainer.trainer import Trainer
from tests.trainer.tiny_runs import train
from tests.trainer.tiny_stores import tiny_settings, write_tiny_data

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
WARMUP, DROPS, GAMMA, RATE, DECAY = 3, (2, 4), 0.1, 1e-3, 0.01
STEPS_DONE = 4  # of the published run: past its warm-up, before both drops
NAME = "goes_on"


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> TrainSettings:
    folder = write_tiny_data(tmp_path_factory.mktemp("data"))
    schedule = {"linear_warmup_steps": WARMUP, "lr_schedule_steps": DROPS, "lr_schedule_gamma": GAMMA, "learning_rate": RATE}
    return tiny_settings(folder, NAME, weight_decay=DECAY, log_text_interval=1, val_interval=0, amp=False, **schedule)


def some_network() -> FlowTransformer:
    torch.manual_seed(3)
    return build_network("nano_16k", duration_s=1.0, latent_mean=torch.randn(20), latent_std=torch.rand(20) + 0.5)


def published_optimizer(network: FlowTransformer) -> tuple[AdamW, LRScheduler]:
    """As training.md sections 4 and 5 describe them."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = AdamW(trained, lr=RATE, betas=(0.9, 0.95), eps=1e-8, weight_decay=DECAY, fused=True)
    warmup = LambdaLR(optimizer, lambda it: (it + 1) / (WARMUP + 1))
    return optimizer, SequentialLR(optimizer, [warmup, MultiStepLR(optimizer, list(DROPS), GAMMA)], milestones=[WARMUP])


def gradients(network: FlowTransformer, step: int) -> Iterator[tuple[torch.nn.Parameter, torch.Tensor]]:
    generator = torch.Generator().manual_seed(step)
    for parameter in network.parameters():
        if parameter.requires_grad:
            yield parameter, torch.randn(parameter.shape, generator=generator)


def step_(network: FlowTransformer, optimizer: torch.optim.Optimizer, step: int) -> None:
    for parameter, gradient in gradients(network, step):
        parameter.grad = gradient
    optimizer.step()


class Published:
    """A run of the published system after `STEPS_DONE` iterations, and the file that it saved then."""

    def __init__(self, path: Path, *, averaged: bool) -> None:
        self.network = some_network()
        self.optimizer, self.scheduler = published_optimizer(self.network)
        for step in range(STEPS_DONE):
            self.advance(step)
        self.weights = {name: tensor.clone() for name, tensor in self.network.state_dict().items()}
        stale = {"t_embed.freqs": torch.ones(128), "latent_rot": torch.ones(1, 32, 4), "clip_rot": torch.ones(1, 8, 4)}
        entries = {
            "it": STEPS_DONE - 1,  # a periodic save names the iteration just finished
            "weights": self.weights | stale,
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "ema": self.ema(self.weights | stale) if averaged else None,
        }
        torch.save(entries, path)

    def advance(self, step: int) -> None:
        step_(self.network, self.optimizer, step)
        self.scheduler.step()

    @staticmethod
    def ema(weights: dict[str, torch.Tensor]) -> dict[str, object]:
        """Two averages in the layout of the golden file, its toy's tensors replaced by those of the network."""
        layout = json.loads((GOLDEN / "ema_layout.json").read_text())["full_state_entries"]
        prefixes = [name.removesuffix("weight") for name, *_ in layout if name.endswith(".weight")]
        states = [(name, value | {"step": STEPS_DONE}) for name, value, *_ in layout if isinstance(value, dict)]
        assert len(prefixes) == len(states) == 2
        result = dict[str, object]()
        for index, (prefix, (name, value)) in enumerate(zip(prefixes, states, strict=True)):
            result[name] = value
            result |= {f"{prefix}{key}": tensor * (1 + index) for key, tensor in weights.items()}
        return result


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> tuple[Published, Path]:
    path = tmp_path_factory.mktemp("published") / "exp_ckpt_last.pth"
    return Published(path, averaged=True), path


def built(settings: TrainSettings, folder: Path) -> TrainState:
    return Trainer(FlowSolver(settings, Ranks(), torch.device("cpu")), folder).state


def test_theirs_is_taken_up_as_it_was_left(base, published, tmp_path):
    theirs, path = published
    run = built(replace(base, checkpoint=str(path)), tmp_path)
    assert run.steps_done == STEPS_DONE
    assert [name for name, tensor in run.network.state_dict().items() if not torch.equal(tensor, theirs.weights[name])] == []
    saved = torch.load(path, weights_only=True)
    mine = run.optimizer.state_dict()["state"]
    assert list(mine) == list(saved["optimizer"]["state"]) == list(range(len(theirs.weights) - 3))
    for index, state in saved["optimizer"]["state"].items():
        assert all(torch.equal(mine[index][name], state[name]) for name in ("step", "exp_avg", "exp_avg_sq")), index
    assert run.ema.updates_done == STEPS_DONE
    for index in (0, 1):
        for name, tensor in run.ema.averages[index].items():
            assert torch.equal(tensor, theirs.weights[name] * (1 + index)), (index, name)


def test_the_steps_after_it_are_theirs(base, tmp_path):
    theirs = Published(tmp_path / "exp_ckpt_last.pth", averaged=False)
    run = built(replace(base, checkpoint=str(tmp_path / "exp_ckpt_last.pth")), tmp_path)
    for step in range(STEPS_DONE, STEPS_DONE + 5):  # past both drops
        rate = run.schedule.set_lr_(run.optimizer, step)
        assert rate == pytest.approx(theirs.optimizer.param_groups[0]["lr"], rel=1e-12)
        step_(run.network, run.optimizer, step)
        theirs.advance(step)
        for name, tensor in theirs.network.state_dict().items():
            torch.testing.assert_close(run.network.state_dict()[name], tensor, rtol=0, atol=1e-7, msg=name)


@pytest.mark.parametrize("averaged", [True, False])
def test_training_goes_on_from_theirs(base, tmp_path, averaged):
    path = tmp_path / "exp_ckpt_last.pth"
    theirs = Published(path, averaged=averaged)
    settings = replace(base, checkpoint=str(path), num_iterations=STEPS_DONE + 2)
    problems = Problems()
    check_training(settings, tmp_path / "run", Ranks(), problems)
    assert problems.sentences == []
    assert train(settings, tmp_path / "run", Ranks(), torch.device("cpu"))
    lines = read_metrics(tmp_path / "run")
    assert [line["steps_done"] for line in lines] == [STEPS_DONE + 1, STEPS_DONE + 2]
    assert [line["train/lr"] for line in lines] == pytest.approx([RATE, RATE * GAMMA])
    ours = torch.load(tmp_path / "run" / f"{NAME}_ckpt_last.pth", weights_only=True)
    assert (ours["it"], ours["scheduler"]["last_epoch"]) == (STEPS_DONE + 2, STEPS_DONE + 2)
    assert {state["step"].item() for state in ours["optimizer"]["state"].values()} == {STEPS_DONE + 2}
    updates = STEPS_DONE + 2 if averaged else 2
    assert [ours["ema"][f"ema_models.{index}._extra_state"]["step"] for index in (0, 1)] == [updates, updates]
    assert ours["weights"].keys() == theirs.weights.keys(), "what early files hold besides is left behind"
    assert not [name for name in ours["ema"] if name.endswith(("rot", "freqs"))]


# ---- the other way round


@pytest.fixture(scope="module")
def ours(base, tmp_path_factory) -> Path:
    """The folder of a run of ours: a checkpoint in its warm-up, one at the end of it, one past a drop."""
    folder = tmp_path_factory.mktemp("ours")
    settings = replace(base, num_iterations=6, save_copy_iterations=(2, WARMUP), ema=EmaSettings(enable=False))
    assert train(settings, folder, Ranks(), torch.device("cpu"))
    return folder


@pytest.mark.parametrize("steps_done", [2, WARMUP, 6])
def test_ours_go_on_in_torch(ours, steps_done):
    name = "last" if steps_done == 6 else str(steps_done)
    saved = torch.load(ours / f"{NAME}_ckpt_{name}.pth", weights_only=True)
    network = some_network()
    optimizer, scheduler = published_optimizer(network)
    network.load_state_dict(saved["weights"], strict=True)
    optimizer.load_state_dict(saved["optimizer"])
    scheduler.load_state_dict(saved["scheduler"])
    assert saved["it"] == scheduler.last_epoch == steps_done
    for index, (parameter, _) in enumerate(gradients(network, 0)):
        state = optimizer.state[parameter]
        assert state["step"].item() == steps_done
        assert torch.equal(state["exp_avg_sq"], saved["optimizer"]["state"][index]["exp_avg_sq"])
        assert state["exp_avg"].shape == parameter.shape
    law = Schedule("step", RATE, WARMUP, DROPS, GAMMA, 300_000)
    for step in range(steps_done, steps_done + 8):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(law.learning_rate(step), rel=1e-12), step
        step_(network, optimizer, step)
        scheduler.step()
    assert math.isfinite(sum(parameter.sum().item() for parameter in network.parameters()))


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (
            lambda saved: saved["optimizer"]["state"].pop(3),
            "holds no moments of 1 parameters, the first is number 3",
        ),
        (lambda saved: saved["optimizer"]["state"].clear(), "holds no moments of"),
        (lambda saved: saved["ema"].pop("ema_models.1.ema_model.sync_pos_emb"), "average 1 of {path} lacks sync_pos_emb (1 in all)"),
    ],
)
def test_a_checkpoint_that_lacks_something_is_refused(base, published, tmp_path, harm, sentence):
    path = tmp_path / "exp_ckpt_last.pth"
    saved = torch.load(published[1], weights_only=True)
    harm(saved)
    torch.save(saved, path)
    problems = Problems()
    check_training(replace(base, checkpoint=str(path)), tmp_path / "run", Ranks(), problems)
    assert len(problems.sentences) == 1
    assert sentence.format(path=path) in problems.sentences[0]
