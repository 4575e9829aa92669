"""`mmaudio train`, and train.py: a training run with sound and scores on the way, and of the test data at its end."""

import logging
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from mmaudio.base.errors import EXIT_BUG, EXIT_REJECTS, Problems
from mmaudio.distributed.ranks import Ranks, read_ranks, unhandled_signals, watch_launcher
from mmaudio.settings.compose import CONFIG_DIR, program
from mmaudio.settings.schema import TrainSettings

if TYPE_CHECKING:
    import torch

    from mmaudio.settings.compose import ComposedCommand
    from mmaudio.trainer.solver import Beat, Solver
    from mmaudio.trainer.trainer import Trainer

log = logging.getLogger(__name__)
CONFIG_NAME = "train_config"
TEST = "test"  # what the test data's evaluation is called among the stages that failed


def main(argv: Sequence[str]) -> int:
    """Check the whole command line, then train. Raises: UserError with every mistake in the words."""
    from mmaudio.runs.signature import signature
    from mmaudio.settings.compose import read_command, show

    ranks, problems = read_ranks(), Problems()
    watch_launcher(ranks)
    command = read_command(argv, TrainSettings, CONFIG_DIR, CONFIG_NAME, signature, problems)
    if not command.only_shows:
        _check(command.settings, command.run_dir, ranks, problems)
    problems.raise_any()
    for note in command.notes if ranks.is_first else ():
        print(f"note: {note}", flush=True)
    if command.only_shows:
        show(command, CONFIG_NAME)
        return 0
    return _train(command, ranks)


def _check(settings: TrainSettings, run_dir: Path, ranks: Ranks, problems: Problems) -> None:
    from mmaudio.evaluation.training_stages import check_stages
    from mmaudio.trainer.checks import check_run_folder
    from mmaudio.trainer.solver import solver_class

    solver = problems.check(lambda: solver_class(settings.solver.target))
    if solver is None:
        return
    solver.check(settings, run_dir, ranks, problems)
    if ranks.is_first:
        problems.check(lambda: check_run_folder(settings, run_dir))
    check_stages(solver, settings, problems)


def _train(command: "ComposedCommand", ranks: Ranks) -> int:
    """Train as the command says; returns the exit code."""
    from mmaudio.base.logs import start_logging
    from mmaudio.distributed.collectives import collective_timeout, process_group
    from mmaudio.distributed.devices import pick_device, set_threads
    from mmaudio.distributed.watchdog import watch_ranks
    from mmaudio.runs.folder import LOG_FILE, lock_run, unmark_requeue
    from mmaudio.runs.signature import claim_folder, record_signature, write_config
    from mmaudio.trainer.solver import solver_class

    settings, run_dir = command.settings, command.run_dir.absolute()
    device = pick_device(settings.device, ranks)
    if ranks.is_first:
        claim_folder(run_dir, settings)
        command.write_record()
    start_logging(ranks.rank, run_dir / LOG_FILE)
    set_threads(ranks)
    kind, limit_s = solver_class(settings.solver.target), settings.hang_timeout_s
    trains = not settings.only_stage()
    writes = ranks.is_first and trains
    if trains and (warning := unhandled_signals()):
        log.warning("%s", warning)
    with (
        process_group(ranks, device, collective_timeout(limit_s)) as store,
        watch_ranks(ranks, store, limit_s) as heartbeat,
        leaving_for_requeue(run_dir) if trains else nullcontext(),
        lock_run(run_dir, holds=writes),
    ):
        if writes:
            unmark_requeue(run_dir)
            record_signature(run_dir, settings)
            write_config(run_dir, settings.name(), command.saved_text())
        return train_and_evaluate(kind, settings, run_dir, ranks, device, heartbeat.beat)


# ---- Training, then the evaluation of the test data; what failed on the way is said at the end


def train_and_evaluate(
    kind: "type[Solver]", settings: TrainSettings, run_dir: Path, ranks: Ranks, device: "torch.device", beat: "Beat"
) -> int:
    """Collective. Train a run to its end and evaluate its test data, from wherever it stands. Returns: the exit code.

    A preview or an evaluation that fails ends nothing: it is told again at the end, and the code is `EXIT_REJECTS`.
    """
    from mmaudio.distributed.collectives import barrier
    from mmaudio.evaluation.training_stages import training_stages, wants_test
    from mmaudio.runs.folder import mark_requeue
    from mmaudio.trainer.optimizer import NonFiniteError
    from mmaudio.trainer.signals import StopReason
    from mmaudio.trainer.trainer import Trainer

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


def _evaluate_test(trainer: "Trainer") -> None:
    """Collective. What fails of it is counted among what the run missed."""
    from mmaudio.distributed.collectives import FailedError, attempt
    from mmaudio.evaluation.evaluator import evaluate_test
    from mmaudio.trainer.stages import FAILED
    from mmaudio.trainer.tracker import append_metrics
    from mmaudio.trainer.trainer import free_memory, report_failure

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


def _ways_to_make_up(trainer: "Trainer") -> str:
    stages = [f"execute_only={name}" for name in trainer.missed.steps if name != TEST]
    ways = [f"the same command with {' or with '.join(stages)} does it for the weights as they are now"] if stages else []
    if TEST in trainer.missed.steps:
        ways.append(f"`python {program('evaluate.py', 'evaluate')} exp_id={trainer.settings.name()}` evaluates the test data")
    return "; ".join(ways)


@contextmanager
def leaving_for_requeue(run_dir: Path) -> Iterator[None]:
    """In the block, whose work is begun anew or gone on with at any point, a scheduler's signal ends the process at once.

    The run is marked as one that is to go on. Training, inside, has a way of its own to end.
    """
    from mmaudio.runs.folder import mark_requeue
    from mmaudio.trainer.signals import REQUEUES, StopReason, handle

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
