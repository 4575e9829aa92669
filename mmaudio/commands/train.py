"""A training run with all that its entry point adds to it: sound and scores on the way, and of the test data at its end."""

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType

import torch

from mmaudio.base.errors import EXIT_BUG, EXIT_REJECTS
from mmaudio.distributed.collectives import FailedError, attempt, barrier
from mmaudio.distributed.ranks import Ranks
from mmaudio.evaluation.training_stages import evaluate_test, training_stages, wants_test
from mmaudio.runs.folder import mark_requeue
from mmaudio.settings.schema import TrainSettings
from mmaudio.trainer.optimizer import NonFiniteError
from mmaudio.trainer.signals import REQUEUES, StopReason, handle
from mmaudio.trainer.solver import Beat, Solver
from mmaudio.trainer.stages import FAILED
from mmaudio.trainer.tracker import append_metrics
from mmaudio.trainer.trainer import Trainer, free_memory, report_failure

log = logging.getLogger(__name__)
TEST = "test"  # what the test data's evaluation is called among the stages that failed


def train_and_evaluate(kind: type[Solver], settings: TrainSettings, run_dir: Path, ranks: Ranks, device: torch.device, beat: Beat) -> int:
    """Collective. Train a run to its end and evaluate its test data, from wherever it stands. Returns: the exit code.

    A preview or an evaluation that fails ends nothing: it is told again at the end, and the code is `EXIT_REJECTS`.
    """
    trainer = Trainer(kind(settings, ranks, device, beat), run_dir, training_stages(kind, settings))
    try:
        asked = trainer.train()
    except NonFiniteError as error:  # raised on every rank at once
        log.error("%s", error)
        barrier()
        return EXIT_BUG
    if wants_test(kind, settings):
        asked = asked or trainer.stop.agreed_now()  # asked after its last step, it evaluates later
        if asked is StopReason.NOTHING:
            _evaluate_test(trainer)
        elif ranks.is_first and asked is StopReason.REQUEUE:
            mark_requeue(run_dir)
    if asked:
        return asked.exit_code
    if not trainer.missed.steps:
        return 0
    log.warning("not done: %s; %s", trainer.missed.words(), _ways_to_make_up(trainer))
    return EXIT_REJECTS


def _evaluate_test(trainer: Trainer) -> None:
    """Collective. What fails of it is counted among what the run missed."""
    settings, missed = trainer.settings, trainer.missed
    step = partial(evaluate_test, settings, trainer.files.folder, trainer.ranks, trainer.device, trainer.solver.beat)
    failed_before = TEST in missed.steps
    missed.steps.pop(TEST, None)
    try:
        attempt(step, recover=partial(free_memory, trainer.device))
    except FailedError as error:
        report_failure("the evaluation of the test data", error)
        missed.add(TEST, settings.num_iterations)
    if trainer.ranks.is_first and failed_before != (TEST in missed.steps):
        append_metrics(trainer.files.folder, {f"{TEST}/{FAILED}": float(TEST in missed.steps)}, settings.num_iterations)


def _ways_to_make_up(trainer: Trainer) -> str:
    stages = [f"execute_only={name}" for name in trainer.missed.steps if name != TEST]
    ways = [f"the same command with {' or with '.join(stages)} does it for the weights as they are now"] if stages else []
    if TEST in trainer.missed.steps:
        ways.append(f"`python evaluate.py exp_id={trainer.settings.name()}` evaluates the test data")
    return "; ".join(ways)


@contextmanager
def leaving_for_requeue(run_dir: Path) -> Iterator[None]:
    """In the block, whose work is begun anew or gone on with at any point, a scheduler's signal ends the process at once.

    The run is marked as one that is to go on. Training, inside, has a way of its own to end.
    """

    def leave(_signum: int, _frame: FrameType | None) -> None:
        mark_requeue(run_dir)
        log.warning("asked to stop; the same command goes on")
        raise SystemExit(StopReason.REQUEUE.exit_code)

    before = handle(REQUEUES, leave)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
