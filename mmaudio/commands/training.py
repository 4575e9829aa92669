"""A training run with all that its entry point adds to it: sound and scores on the way, and of the test data at its end."""

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import torch

from mmaudio.base.errors import EXIT_BUG
from mmaudio.base.ranks import Ranks, wait_for_all
from mmaudio.base.settings import TrainSettings
from mmaudio.commands.added_stages import added_stages
from mmaudio.commands.evaluation.stage import evaluate_test, wants_test
from mmaudio.runs.folder import mark_requeue
from mmaudio.trainer import engine
from mmaudio.trainer.refusals import NonFiniteError
from mmaudio.trainer.solver import Beat, Solver
from mmaudio.trainer.stopping import REQUEUES, Asked

log = logging.getLogger(__name__)


def train_and_evaluate(kind: type[Solver], settings: TrainSettings, run_dir: Path, ranks: Ranks, device: torch.device, beat: Beat) -> int:
    """Collective. Train a run to its end and evaluate its test data, from wherever it stands. Returns: the exit code."""
    try:
        asked = _train(kind, settings, run_dir, ranks, device, beat)
    except NonFiniteError as error:  # raised on every rank at once
        log.error("%s", error)
        wait_for_all()
        return EXIT_BUG
    if asked is Asked.NOTHING and wants_test(kind, settings):
        with _leaving_for_requeue(run_dir):
            evaluate_test(settings, run_dir, ranks, device, beat)
    if ranks.is_first and asked is Asked.REQUEUE:
        mark_requeue(run_dir)
    return asked.exit_code


def _train(kind: type[Solver], settings: TrainSettings, run_dir: Path, ranks: Ranks, device: torch.device, beat: Beat) -> Asked:
    solver = kind(settings, run_dir, ranks, device, beat, added_stages(kind, settings))
    asked = engine.train(solver)
    return asked or (solver.stop.agreed_now() if wants_test(kind, settings) else asked)  # asked after its last step, it evaluates later


@contextmanager
def _leaving_for_requeue(run_dir: Path) -> Iterator[None]:
    """In the block, whose work is begun anew or gone on with at any point, a scheduler's signal ends the process at once.

    The run stands and is marked as one that is to go on.
    """

    def leave(_signum: int, _frame: FrameType | None) -> None:
        mark_requeue(run_dir)
        log.warning("asked to stop while the test data is evaluated; the same command does the rest")
        raise SystemExit(Asked.REQUEUE.exit_code)

    before = {number: signal.signal(number, leave) for number in REQUEUES}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
