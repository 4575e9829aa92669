"""The training loop: takes steps, runs stages when they are due, saves, resumes, stops. It knows nothing of what is learned."""

import gc
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from mmaudio.base.errors import UserError
from mmaudio.distributed.collectives import AskedToStopError, FailedError, attempt, barrier, broadcast_from_first
from mmaudio.runs.folder import mark_requeue
from mmaudio.trainer.checkpointing import Checkpointer
from mmaudio.trainer.meters import Meters, Telemetry, Values, eta_words
from mmaudio.trainer.model_settings import compute_dtype
from mmaudio.trainer.signals import StopReason
from mmaudio.trainer.solver import Solver, closed_after
from mmaudio.trainer.stages import FAILED, Every, Missed
from mmaudio.trainer.tracker import Tracker, read_metrics

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StageTimes:
    """When a stage is due; `at_start`: also before the first iteration, `at_end`: also after the last one."""

    cadence: Every
    at_start: bool = False
    at_end: bool = False


def stage_times(solver: Solver) -> dict[str, StageTimes]:
    """When each stage of a run is due, without those that never are. Raises: UserError for epochs of no known length."""
    settings = solver.settings

    def cadence(epochs: int | None, interval: int) -> Every:
        return Every(epochs * solver.updates_per_epoch()) if epochs else Every(interval)

    times = {
        "valid": StageTimes(cadence(settings.valid.every, settings.val_interval), settings.validate_first, at_end=True),
        "evaluate": StageTimes(cadence(settings.evaluate.every, settings.eval_interval)),
        "generate": StageTimes(cadence(settings.generate.every, settings.log_extra_interval), at_start=True),
    }
    if settings.execute_only == "train":
        return {}
    return {name: each for name, each in times.items() if name in solver.stages() and each.cadence.every}


def train(solver: Solver) -> StopReason:
    """Collective. Train a run to its last iteration, or until asked to stop, from wherever it stands; or `execute_only` one of its stages.

    What fails of the stages besides validation is in `solver.missed` then, also of the parts of the run before this one.

    Returns: what it was asked for, `StopReason.NOTHING` where it came to its end.
    """
    only = solver.settings.only_stage()
    goes_on_after = None if only else solver.run.steps_done
    tracker = Tracker(solver.files.folder, writes=solver.ranks.is_first, steps_done=goes_on_after)
    try:
        if only:
            return _execute(solver, only, tracker)
        solver.missed = broadcast_from_first(Missed.read(read_metrics(solver.files.folder)) if solver.ranks.is_first else None)
        with solver.stop:  # around all that is saved: no signal may interrupt that
            with Checkpointer(solver) as keeper:
                steps_done, asked = _take_steps(solver, keeper, tracker)
                if asked or not solver.settings.debug:
                    keeper.save_rest(steps_done)
                if not asked:
                    keeper.save_averages(steps_done)
            if asked is StopReason.REQUEUE and solver.ranks.is_first:  # while another signal cannot keep it from that
                mark_requeue(solver.files.folder)
            barrier()
    finally:
        tracker.close()
    if asked:
        log.warning("asked to stop after %d of %d iterations", steps_done, solver.settings.num_iterations)
    return asked


def _execute(solver: Solver, stage: str, tracker: Tracker) -> StopReason:
    """Collective. One stage alone, of the run as it stands."""
    stages = solver.stages()
    if stage not in stages:
        raise UserError(f"execute_only is {stage!r}, and this run has no such stage; it has train, {', '.join(stages)}")
    values, steps_done = stages[stage](solver.run.steps_done), solver.run.steps_done
    made_up = stage in Missed.read(read_metrics(solver.files.folder)).steps if solver.ranks.is_first else False
    tracker.log(stage, {**values, FAILED: 0.0} if made_up else values, steps_done)
    barrier()
    return StopReason.NOTHING


def _take_steps(solver: Solver, keeper: Checkpointer, tracker: Tracker) -> tuple[int, StopReason]:
    """Collective. The steps of a run, and what is due between them. Returns: finished iterations, and whether it was asked to stop."""
    settings, steps_done = solver.settings, solver.run.steps_done
    times, every_log = stage_times(solver), Every(settings.log_text_interval)
    meters = Meters({"loss": (), "grad_norm": (), "lr": (), **solver.meters}, solver.device)
    due = [name for name, each in times.items() if (each.at_start if steps_done == 0 else name in solver.run.unfinished.names)]
    asked = _run_stages(solver, due, tracker, keeper, steps_done)
    if steps_done >= settings.num_iterations:
        log.info("all %d iterations are done already", settings.num_iterations)
    dtype, num_ranks = compute_dtype(amp=solver.amp), solver.ranks.world_size
    telemetry = Telemetry(solver.flops_per_row(), settings.batch_size, num_ranks, solver.device, dtype)
    with closed_after(solver.build_batches("train", steps_done)) as batches:
        while steps_done < settings.num_iterations and not (asked := asked or solver.stop.agreed()):
            batch, waited_s = _timed_next(batches)
            meters.add(solver.run_step(batch, steps_done))
            steps_done += 1
            solver.beat("train", steps_done)
            telemetry.add_step(waited_s)
            is_last = steps_done == settings.num_iterations
            due = [name for name, each in times.items() if each.cadence.due(steps_done) or (is_last and each.at_end)]
            logs = every_log.due(steps_done) or is_last
            if logs or due or keeper.is_due(steps_done) or solver.device.type == "cpu":
                solver.refusals.look(solver.names_of)  # before anything is made of the weights; waits for the device
            if logs:
                pace = telemetry.pop()
                eta = eta_words(pace["step_s"], settings.num_iterations - steps_done)
                tracker.log("train", {**meters.pop(), **pace}, steps_done, eta)
            asked = _run_stages(solver, due, tracker, keeper, steps_done)
            keeper.save_due(steps_done)
        solver.refusals.look(solver.names_of)
        solver.stop.settle()
    return steps_done, asked


def _run_stages(solver: Solver, names: Sequence[str], tracker: Tracker, keeper: Checkpointer, steps_done: int) -> StopReason:
    """Collective. Returns: what the run was asked for, where a stage ended early because of it; the run that goes on does the rest."""
    for place, name in enumerate(names):
        solver.run.unfinished.names = tuple(names[place:])
        is_training = name == "valid"  # whose failure is the run's own
        stage, catches = solver.stages()[name], AskedToStopError if is_training else Exception
        try:
            found = attempt(partial(_call, stage, steps_done), catches, partial(free_memory, solver.device))
            values = broadcast_from_first(found)  # what is best is the same for all ranks
        except FailedError as error:  # raised on every rank
            if error.asked:
                return StopReason(error.asked)
            values = {FAILED: float(solver.missed.add(name, steps_done))}
            report_failure(f"{name} after {steps_done} iterations", error)
        tracker.log(name, values, steps_done)
        keeper.judge(name, values, steps_done)
    solver.run.unfinished.names = ()
    return StopReason.NOTHING


def _call(stage: Callable[[int], Values], steps_done: int) -> Values:
    return dict(stage(steps_done))


def report_failure(what: str, error: FailedError) -> None:
    """Say that something failed which no training ends for; of a bug, the traceback goes to the log file."""
    log.warning("%s failed: %s; the run goes on without", what, error)
    for failure in error.failures:
        if failure.traceback:
            log.debug("on rank %d:\n%s", failure.rank, failure.traceback)


def free_memory(device: torch.device) -> None:
    """Give back what a failed stage took. Raises: what the device says of itself, where it cannot go on."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()


def _timed_next(batches: Iterator[Any]) -> tuple[Any, float]:
    began_s = time.monotonic()
    return next(batches), time.monotonic() - began_s
