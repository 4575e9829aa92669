"""The engine on a task of ten lines: what is due when, what is saved, what a signal may interrupt, what one stage alone does."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mmaudio.base.errors import UserError
from mmaudio.checkpoints.load import load_checkpoint
from mmaudio.distributed.ranks import Ranks
from mmaudio.settings.schema import EmaSettings, SolverSettings, StageSettings, TrainSettings, ValidSettings
from mmaudio.trainer.signals import StopReason
from mmaudio.trainer.solver import Solver, solver_class
from mmaudio.trainer.tracker import read_metrics
from mmaudio.trainer.trainer import Trainer
from tests.trainer.line_solver import LineSolver

CPU = torch.device("cpu")
SETTINGS = TrainSettings(
    exp_id="line",
    device="cpu",
    batch_size=4,
    num_iterations=12,
    learning_rate=0.1,
    linear_warmup_steps=0,
    log_text_interval=4,
    val_interval=0,
    save_weights_interval=0,
    save_checkpoint_interval=0,
    ema=EmaSettings(checkpoint_every=100),
    solver=SolverSettings(options={"slope": 3.0}),
)


def built(folder: Path, kind: type[LineSolver] = LineSolver, **changes: object) -> Trainer:
    return Trainer(kind(replace(SETTINGS, **changes), Ranks(), CPU), folder)


def logged(folder: Path, name: str) -> list[int]:
    return [line["steps_done"] for line in read_metrics(folder) if name in line]


def test_ten_lines_learn_save_and_go_on(tmp_path):
    assert built(tmp_path, num_iterations=60).train() is StopReason.NOTHING
    weights = torch.load(tmp_path / "line_last.pth", weights_only=True)
    assert weights["weight"].item() == pytest.approx(3.0, abs=0.2)
    assert {path.name for path in tmp_path.glob("*.pth")} == {"line_last.pth", "line_ckpt_last.pth", "line_ema_final.pth"}
    straight = load_checkpoint(tmp_path / "line_ckpt_last.pth")
    other = tmp_path / "other"
    built(other, num_iterations=25).train()
    built(other, num_iterations=60).train()
    for name, tensor in load_checkpoint(other / "line_ckpt_last.pth").weights.items():
        assert torch.equal(tensor, straight.weights[name])


def test_stages_are_due_by_epochs_or_by_iterations(tmp_path):
    by_epochs = {"updates_per_epoch": 3, "valid": ValidSettings(every=2, max_rows=None), "validate_first": False}
    built(tmp_path / "epochs", **by_epochs).train()
    assert logged(tmp_path / "epochs", "valid/loss") == [6, 12]
    built(tmp_path / "steps", val_interval=5).train()
    assert logged(tmp_path / "steps", "valid/loss") == [0, 5, 10, 12]
    with pytest.raises(UserError, match="give updates_per_epoch=N"):
        built(tmp_path / "unknown", valid=ValidSettings(every=2)).train()


class StagedSolver(LineSolver):
    """With an evaluation and samples, which note when they were made."""

    def stages(self):
        self.made = []
        return {"evaluate": self.score, "generate": self.sample}

    def score(self, steps_done):
        return {"points": float(steps_done)}

    def sample(self, steps_done):
        return {"made": 1.0}


def test_evaluate_and_generate_have_their_own_times(tmp_path):
    every = {"evaluate": StageSettings(every=2), "generate": StageSettings(every=3), "updates_per_epoch": 2}
    built(tmp_path, StagedSolver, **every).train()
    assert (logged(tmp_path, "evaluate/points"), logged(tmp_path, "generate/made")) == ([4, 8, 12], [0, 6, 12])


@pytest.mark.parametrize(("stage", "name"), [("valid", "valid/loss"), ("evaluate", "evaluate/points"), ("generate", "generate/made")])
def test_one_stage_alone(tmp_path, stage, name):
    built(tmp_path, StagedSolver, num_iterations=5).train()
    before = (tmp_path / "line_ckpt_last.pth").read_bytes()
    built(tmp_path, StagedSolver, execute_only=stage).train()
    assert logged(tmp_path, name)[-1:] == [5]
    assert (tmp_path / "line_ckpt_last.pth").read_bytes() == before


def test_training_alone_and_a_stage_there_is_not(tmp_path):
    built(tmp_path, StagedSolver, execute_only="train", val_interval=2).train()
    assert logged(tmp_path, "valid/loss") == []
    assert logged(tmp_path, "train/loss") == [4, 8, 12]
    with pytest.raises(UserError, match="execute_only is 'generate', and this run has no such stage; it has train, valid"):
        built(tmp_path, execute_only="generate").train()


def test_validation_has_a_bound(tmp_path):
    whole, bound = (built(tmp_path / str(most), valid=ValidSettings(max_rows=most)) for most in (None, 4))
    beats = []
    bound.solver.beat = lambda what, steps_done: beats.append(what)
    assert bound.validate(0)["loss"] != whole.validate(0)["loss"]
    assert beats == ["valid"]


class Counter:
    def __init__(self):
        self.count = 0

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state):
        self.count = state["count"]


class CountingSolver(LineSolver):
    """Counts its losses, and has a parameter whose average nobody wants."""

    def open_data(self):
        self.counter = Counter()

    def stateful(self):
        return {"counter": self.counter}

    def averaged(self, network):
        return {name: tensor for name, tensor in network.state_dict().items() if name == "weight"}

    def build_optimizer(self, network):
        return torch.optim.AdamW(network.parameters(), lr=0.5, fused=True)

    def loss(self, module, batch, steps_done):
        self.counter.count += 1
        return super().loss(module, batch, steps_done)


def test_a_task_keeps_what_it_registers(tmp_path):
    built(tmp_path, CountingSolver).train()
    state = load_checkpoint(tmp_path / "line_ckpt_last.pth")
    assert state.extra["counter"] == {"count": 12}
    assert set(torch.load(tmp_path / "line_ema_final.pth", weights_only=True)) == {"weight"}
    again = built(tmp_path, CountingSolver, num_iterations=14)
    assert again.solver.counter.count == 12
    again.train()
    assert load_checkpoint(tmp_path / "line_ckpt_last.pth").extra["counter"] == {"count": 14}


def test_the_best_weights_are_kept(tmp_path):
    built(tmp_path, num_iterations=40, val_interval=10).train()
    losses = {line["steps_done"]: line["valid/loss"] for line in read_metrics(tmp_path) if "valid/loss" in line}
    best = min(losses, key=losses.get)
    kept = {"value": losses[best], "steps_done": best, "metric": "valid/loss"}
    assert load_checkpoint(tmp_path / "line_ckpt_last.pth").extra["best"] == kept
    assert (tmp_path / "line_best.pth").is_file()


class StoppedSolver(LineSolver):
    """Is asked to stop in the middle of its third step, and again, with each save."""

    def loss(self, module, batch, steps_done):
        if steps_done == 2:
            os.kill(os.getpid(), self.settings.solver.options["signal"])
        return super().loss(module, batch, steps_done)

    def record(self, steps_done):
        if steps_done > 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return super().record(steps_done)


@pytest.mark.parametrize(
    ("number", "asked"),
    [
        *((number, StopReason.REQUEUE) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP)),
        (signal.SIGINT, StopReason.STOP),
    ],
)
def test_a_signal_ends_the_run_after_the_step_and_cannot_interrupt_the_save(tmp_path, number, asked):
    outside = []
    before = signal.signal(signal.SIGTERM, lambda *_: outside.append(1))
    terminal = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # also where nohup runs the tests
    trainer = built(tmp_path, StoppedSolver, solver=SolverSettings(options={"slope": 3.0, "signal": int(number)}))
    try:
        assert trainer.train() is asked
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGHUP, terminal)
    assert outside == []
    assert load_checkpoint(tmp_path / "line_ckpt_last.pth").steps_done == 3


def test_a_closed_terminal_stays_ignored_where_it_is(tmp_path):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup has it
    try:
        with built(tmp_path).stop:
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


class LeavingStage:
    """Is asked to stop in the midst of its second call, and leaves its loop there."""

    name = "evaluate"
    measures = ("points",)
    higher_is_better = frozenset({"points"})

    def __init__(self):
        self.calls = []

    def __call__(self, trainer, steps_done):
        self.calls.append(steps_done)
        if len(self.calls) == 2:
            signal.raise_signal(signal.SIGTERM)
        trainer.stop.look()
        return {"points": float(steps_done)}


def test_a_stage_that_ends_early_is_done_by_the_run_that_goes_on(tmp_path):
    stage, words = LeavingStage(), {"eval_interval": 6, "best_metric": "evaluate/points"}

    def run():
        return Trainer(LineSolver(replace(SETTINGS, **words), Ranks(), CPU), tmp_path, [stage]).train()

    assert run() is StopReason.REQUEUE
    assert (stage.calls, logged(tmp_path, "evaluate/points")) == ([6, 12], [6])
    assert load_checkpoint(tmp_path / "line_ckpt_last.pth").extra["unfinished"] == {"names": ["evaluate"]}
    assert run() is StopReason.NOTHING
    assert (stage.calls, logged(tmp_path, "evaluate/points")) == ([6, 12, 12], [6, 12])
    kept = load_checkpoint(tmp_path / "line_ckpt_last.pth").extra
    assert (kept["unfinished"], kept["best"]["value"]) == ({"names": []}, 12.0)
    run()
    assert stage.calls == [6, 12, 12]


def test_debug_saves_nothing_at_the_end(tmp_path):
    built(tmp_path, debug=True).train()
    assert not (tmp_path / "line_ckpt_last.pth").exists()


class ListSolver(LineSolver):
    """Its batches are lists, which cannot be closed."""

    def build_batches(self, stage, steps_done):
        return [torch.ones(4, 1)] * 12


class WrongSolver(LineSolver):
    def loss(self, module, batch, steps_done):
        return module(batch).square().mean()


class LazySolver(LineSolver):
    loss = Solver.loss


def test_what_a_task_may_give_and_what_not(tmp_path):
    built(tmp_path / "list", ListSolver, val_interval=6).train()
    with pytest.raises(UserError, match=r"WrongSolver\.loss gives a Tensor; want Loss\(one loss per row"):
        built(tmp_path / "wrong", WrongSolver).train()
    with pytest.raises(UserError, match="LazySolver', which has no loss; a task says build_network, build_batches, loss"):
        solver_class("tests.trainer.test_solver.LazySolver")


def test_an_optimizer_that_cannot_leave_a_step_out(tmp_path):
    class PlainSolver(LineSolver):
        def build_optimizer(self, network):
            return torch.optim.RMSprop(network.parameters())

    with pytest.raises(UserError, match="RMSprop cannot leave out a step"):
        built(tmp_path, PlainSolver)


def test_classes_that_are_no_task():
    assert solver_class("tests.trainer.line_solver.LineSolver") is LineSolver
    for target, said in (("nothing", "cannot be imported"), ("torch.nn.Linear", "no subclass"), ("os.path.nothing", "cannot be imported")):
        with pytest.raises(UserError, match=said):
            solver_class(target)
