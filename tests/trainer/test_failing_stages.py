"""Stages that fail, on one process or on some of two: training goes on bit for bit as without them, and what is missing is known."""

import errno
import logging
from dataclasses import replace

import pytest
import torch
import torch.distributed as dist

from mmaudio.base.errors import UserError
from mmaudio.checkpoints.load import load_checkpoint
from mmaudio.distributed.ranks import Ranks
from mmaudio.trainer.signals import StopReason
from mmaudio.trainer.stages import Missed, PlainStage
from mmaudio.trainer.tracker import append_metrics, read_metrics
from mmaudio.trainer.trainer import Trainer
from tests.conftest import ROOT, torchrun
from tests.trainer.line_solver import LineSolver
from tests.trainer.test_solver import CPU, SETTINGS, logged

ERRORS = [
    UserError("no weights at x; fetch them"),
    OSError(errno.ENOSPC, "No space left on device", "x.flac"),
    PermissionError(errno.EACCES, "Permission denied", "previews"),
    ValueError("the file is torn"),
    torch.OutOfMemoryError("CUDA out of memory"),
    MemoryError(),
    AssertionError(),
    KeyError("mean"),
]
EVERY_STEP = replace(SETTINGS, num_iterations=len(ERRORS) + 1, eval_interval=1, best_metric="evaluate/points")


def train(folder, function, settings=EVERY_STEP):
    trainer = Trainer(LineSolver(settings, Ranks(), CPU), folder, [PlainStage("evaluate", function, ("points",))])
    return trainer.train(), trainer.missed.steps


def fail_in_turn(trainer, steps_done):
    torch.randn(7)  # nor does what it draws matter
    if steps_done <= len(ERRORS):
        raise ERRORS[steps_done - 1]
    return {"points": 1.0}


def test_no_error_of_a_stage_ends_a_training(tmp_path, caplog):
    caplog.set_level(logging.DEBUG, "mmaudio")
    ended, missed = train(tmp_path / "failing", fail_in_turn)
    assert (ended, missed) == (StopReason.NOTHING, {"evaluate": list(range(1, 9))})
    assert [line["evaluate/failed"] for line in read_metrics(tmp_path / "failing") if "evaluate/failed" in line] == list(range(1, 9))
    assert logged(tmp_path / "failing", "evaluate/points") == [9]
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings[0] == "evaluate after 1 iterations failed: no weights at x; fetch them; the run goes on without"
    assert "evaluate after 2 iterations failed: x.flac: No space left on device; the run goes on without" in warnings
    assert "evaluate after 5 iterations failed: OutOfMemoryError: CUDA out of memory; the run goes on without" in warnings
    assert warnings.count("evaluate/points was not measured after 8 iterations, so these weights are not judged") == 1
    tracebacks = [record.getMessage() for record in caplog.records if record.levelno == logging.DEBUG]
    assert len(tracebacks) == 5 and all("in fail_in_turn" in text for text in tracebacks)  # what a user can mend needs none
    train(tmp_path / "well", lambda *_: {"points": 1.0})
    failing, well = (load_checkpoint(tmp_path / name / "line_ckpt_last.pth") for name in ("failing", "well"))
    assert all(torch.equal(tensor, well.weights[name]) for name, tensor in failing.weights.items())
    assert failing.extra["best"]["steps_done"] == 9


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(9), dist.DistBackendError("NCCL error"), RuntimeError("gloo: closed")])
def test_the_end_of_a_process_ends_the_training(tmp_path, error):
    def end(*_):
        raise error

    with pytest.raises(type(error)):
        train(tmp_path, end)


def test_a_validation_that_fails_ends_the_training(tmp_path):
    class Failing(LineSolver):
        def valid(self, objective, steps_done, progress):
            raise ValueError("no such row")

    with pytest.raises(ValueError, match="no such row"):
        Trainer(Failing(replace(SETTINGS, val_interval=4), Ranks(), CPU), tmp_path).train()


def test_what_was_missed_is_known_to_the_run_that_goes_on_until_it_is_made_up_for(tmp_path):
    def at(steps, *, fails):
        def stage(trainer, steps_done):
            if fails:
                raise UserError("no")
            return {"points": 1.0}

        return train(tmp_path, stage, replace(EVERY_STEP, num_iterations=steps))[1]

    assert at(2, fails=True) == {"evaluate": [1, 2]}
    assert at(3, fails=False) == {"evaluate": [1, 2]}
    assert at(3, fails=False) == {"evaluate": [1, 2]}
    train(tmp_path, lambda *_: {"points": 1.0}, replace(EVERY_STEP, num_iterations=3, execute_only="evaluate"))
    assert at(3, fails=False) == {}
    assert at(4, fails=True) == {"evaluate": [4]}


def test_missed_stages_as_the_metrics_have_them(tmp_path):
    for steps_done, values in [
        (1, {"evaluate/failed": 1.0}),
        (1, {"generate/failed": 1.0}),
        (2, {"evaluate/points": 3.0, "train/loss": 1.0}),
        (3, {"evaluate/failed": 2.0}),
        (3, {"generate/failed": 0.0, "generate/latent_distance": 0.5}),
    ]:
        append_metrics(tmp_path, values, steps_done)
    found = Missed.read(read_metrics(tmp_path))
    assert found.steps == {"evaluate": [1, 3]} and found.words() == "evaluate after 1, 3 iterations"


@pytest.mark.slow
def test_a_stage_that_fails_on_some_processes_keeps_nobody_waiting():
    ended = torchrun(ROOT / "tests/trainer/failing_stage.py", PYTHONPATH=str(ROOT))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert sorted(line for line in ended.stdout.splitlines() if line.startswith("rank")) == ["rank 0 is done", "rank 1 is done"]
