"""Trainer: the loop of a run: steps, stages, checkpoints, numbers, stop. What is trained, the `Solver` says."""

import gc
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmaudio.base.errors import UserError
from mmaudio.checkpoints.run_files import RunFiles
from mmaudio.distributed.collectives import (
    AskedToStopError,
    FailedError,
    attempt,
    barrier,
    broadcast_from_first,
    collective_timeout,
)
from mmaudio.runs.folder import mark_requeue
from mmaudio.trainer.checkpointing import Checkpointer
from mmaudio.trainer.meters import Meters, Sum, Telemetry, Values, eta_words
from mmaudio.trainer.model_settings import compute_dtype
from mmaudio.trainer.optimizer import SkippedSteps
from mmaudio.trainer.parallel import check_room, full_tensor, no_sync_until_last
from mmaudio.trainer.resume import begin_or_resume
from mmaudio.trainer.signals import StopReason, StopSignals
from mmaudio.trainer.solver import Loss, Solver, closed_after
from mmaudio.trainer.stages import FAILED, Every, Missed, Stage, stage_times
from mmaudio.trainer.tracker import Tracker, read_metrics

log = logging.getLogger(__name__)


class Trainer:
    """One run of a task, from wherever its folder says that it stands.

    Attributes:
        solver: what is trained.
        state: all that changes meanwhile; a checkpoint keeps it.
        files: of the run's folder.
        stop: the signals that ask the run to stop.
        missed: stages that were due and failed, also in the parts of the run before this one.
    """

    def __init__(self, solver: Solver, run_dir: Path, added: Sequence[Stage] = ()) -> None:
        """Collective. Build the run, or continue what its folder holds.

        Args:
            added: stages that training itself needs nothing of, such as sound and scores; a function is one as a `PlainStage`.
        Raises: UserError for a checkpoint or weights of another model.
        """
        settings = solver.settings
        self.solver, self.settings, self.ranks, self.device, self.added = solver, settings, solver.ranks, solver.device, added
        self.files = RunFiles(run_dir, settings.name())
        self.stop, self.missed = StopSignals(collective_timeout(settings.hang_timeout_s)), Missed()
        solver.open_data()
        self.state = begin_or_resume(solver, self.files)
        self.skipped = SkippedSteps(solver.rows_per_rank, settings.max_skipped_steps, solver.device)

    # ---- the whole run

    def train(self) -> StopReason:
        """Collective. Train to the last iteration, or until asked to stop; or `execute_only` one of the stages.

        Returns: what the run was asked for, `StopReason.NOTHING` where it came to its end.
        """
        only = self.settings.only_stage()
        tracker = Tracker(self.files.folder, writes=self.ranks.is_first, steps_done=None if only else self.state.steps_done)
        try:
            if only:
                return self._execute(only, tracker)
            self.missed = broadcast_from_first(Missed.read(read_metrics(self.files.folder)) if self.ranks.is_first else None)
            with self.stop:  # around all that is saved: no signal may interrupt that
                with Checkpointer(self.solver, self.state, self.files) as checkpointer:
                    steps_done, asked = self._take_steps(checkpointer, tracker)
                    if asked or not self.settings.debug:
                        checkpointer.save_rest(steps_done)
                    if not asked:
                        checkpointer.save_averages(steps_done)
                if asked is StopReason.REQUEUE and self.ranks.is_first:  # while another signal cannot keep it from that
                    mark_requeue(self.files.folder)
                barrier()
        finally:
            tracker.close()
        if asked:
            log.warning("asked to stop after %d of %d iterations", steps_done, self.settings.num_iterations)
        return asked

    def _take_steps(self, checkpointer: Checkpointer, tracker: Tracker) -> tuple[int, StopReason]:
        """Collective. The steps, and what is due between them. Returns: finished iterations, and whether it was asked to stop."""
        settings, solver, steps_done = self.settings, self.solver, self.state.steps_done
        times, every_log = stage_times(settings, self.stages(), solver.updates_per_epoch), Every(settings.log_text_interval)
        meters = Meters({"loss": (), "grad_norm": (), "lr": (), **solver.meters}, self.device)
        due = [name for name, each in times.items() if (each.at_start if steps_done == 0 else name in self.state.unfinished.names)]
        asked = self._run_stages(due, tracker, checkpointer, steps_done)
        if steps_done >= settings.num_iterations:
            log.info("all %d iterations are done already", settings.num_iterations)
        dtype = compute_dtype(amp=solver.amp)
        telemetry = Telemetry(solver.flops_per_row(), settings.batch_size, self.ranks.world_size, self.device, dtype)
        with closed_after(solver.build_batches("train", steps_done)) as batches:
            while steps_done < settings.num_iterations and not (asked := asked or self.stop.agreed()):
                batch, waited_s = _timed_next(batches)
                meters.add(self.step(batch, steps_done))
                steps_done += 1
                solver.beat("train", steps_done)
                telemetry.add_step(waited_s)
                is_last = steps_done == settings.num_iterations
                due = [name for name, each in times.items() if each.every.due(steps_done) or (is_last and each.at_end)]
                logs = every_log.due(steps_done) or is_last
                if logs or due or checkpointer.is_due(steps_done) or self.device.type == "cpu":
                    self.skipped.look(solver.names_of)  # before anything is made of the weights; waits for the device
                if logs:
                    pace = telemetry.pop()
                    eta = eta_words(pace["step_s"], settings.num_iterations - steps_done)
                    tracker.log("train", {**meters.pop(), **pace}, steps_done, eta)
                asked = self._run_stages(due, tracker, checkpointer, steps_done)
                checkpointer.save_due(steps_done)
            self.skipped.look(solver.names_of)
            self.stop.settle()
        return steps_done, asked

    # ---- one step

    def step(self, batch: Any, steps_done: int) -> dict[str, Sum]:
        """Collective. One iteration; `steps_done` are finished before it. A step whose gradient is not finite changes no weight."""
        state, solver, losses = self.state, self.solver, list[Loss]()
        learning_rate = state.schedule.set_lr_(state.optimizer, steps_done)
        state.optimizer_step.zero_grad()
        micro_batches = solver.micro_batches(batch)
        for place, micro_batch in enumerate(micro_batches, start=1):
            with no_sync_until_last(state.module, is_last=place == len(micro_batches)):
                losses.append(solver.checked_loss(state.module, micro_batch, steps_done))
                state.optimizer_step.backward(losses[-1].loss_b.sum() / solver.rows_per_rank)
        taken = state.optimizer_step.step()
        loss_b = torch.cat([each.loss_b.detach() for each in losses])
        self.skipped.note(taken.is_skipped, loss_b, steps_done)
        if state.ema and steps_done >= self.settings.ema.start:
            state.ema.follow()
        sums = {"loss": Sum.of(loss_b), "grad_norm": Sum.of(taken.grad_norm[None]), **_totals([each.sums for each in losses])}
        lr = Sum.of(torch.full((1,), learning_rate, device=self.device))
        return {name: each.unless(taken.is_skipped) for name, each in sums.items()} | {"lr": lr}

    # ---- stages: what is done between steps

    def stages(self) -> Mapping[str, Callable[[int], Values]]:
        """Each stage of the run by its name, in order: `valid`, `evaluate`, `generate`, as far as it has them."""
        own = {"valid": self.validate} if type(self.solver).validated(self.settings) else {}
        return {**own, **self.solver.stages(), **{stage.name: partial(stage, self) for stage in self.added}}

    def validate(self, steps_done: int) -> Values:
        """Collective. The task's numbers on held-out rows. It ends early, on every rank, where the run is asked to stop."""

        def progress() -> None:
            self.solver.beat("valid", steps_done)
            self.stop.look()

        return self.solver.valid(self.whole_objective(), steps_done, progress)

    def _execute(self, name: str, tracker: Tracker) -> StopReason:
        """Collective. One stage alone, of the run as it stands."""
        stages, steps_done = self.stages(), self.state.steps_done
        if name not in stages:
            raise UserError(f"execute_only is {name!r}, and this run has no such stage; it has train, {', '.join(stages)}")
        values = stages[name](steps_done)
        made_up = name in Missed.read(read_metrics(self.files.folder)).steps if self.ranks.is_first else False
        tracker.log(name, {**values, FAILED: 0.0} if made_up else values, steps_done)
        barrier()
        return StopReason.NOTHING

    def _run_stages(self, names: Sequence[str], tracker: Tracker, checkpointer: Checkpointer, steps_done: int) -> StopReason:
        """Collective. Returns: what the run was asked for, where a stage ended early because of it; the run that goes on does the rest."""
        for place, name in enumerate(names):
            self.state.unfinished.names = tuple(names[place:])
            is_training = name == "valid"  # whose failure is the run's own
            stage, catches = self.stages()[name], AskedToStopError if is_training else Exception
            try:
                found = attempt(partial(_call, stage, steps_done), catches, partial(free_memory, self.device))
                values = broadcast_from_first(found)  # what is best is the same for all ranks
            except FailedError as error:  # raised on every rank
                if error.asked:
                    return StopReason(error.asked)
                values = {FAILED: float(self.missed.add(name, steps_done))}
                report_failure(f"{name} after {steps_done} iterations", error)
            tracker.log(name, values, steps_done)
            self._keep_best(checkpointer, name, values, steps_done)
        self.state.unfinished.names = ()
        return StopReason.NOTHING

    def _keep_best(self, checkpointer: Checkpointer, stage: str, values: Values, steps_done: int) -> None:
        """Collective. Keep the weights if the run's metric is among a stage's values, and better than it ever was."""
        metric = self.settings.best_metric or self.solver.best_metric
        if metric is None or metric.partition("/")[0] != stage:
            return
        best, value = self.state.best, values.get(metric.partition("/")[2])
        if not isinstance(value, float | int) or not math.isfinite(value):
            log.warning("%s was not measured after %d iterations, so these weights are not judged", metric, steps_done)
            return
        if best.metric not in (None, metric):
            log.warning("the best weights were judged by %s and are now by %s, which counts anew", best.metric, metric)
        higher = any(metric == f"{each.name}/{key}" for each in self.added for key in each.higher_is_better)
        if best.take(metric, value, steps_done, higher_is_better=higher):
            checkpointer.save_best(steps_done)

    # ---- the network, for stages

    def whole_network(self) -> nn.Module:
        """Collective. The network as one process can use it alone: of a shared one, a copy of its own."""
        network = self.state.network
        if not self.state.is_shared:
            return network
        tensors = network.state_dict()
        check_room(tensors.values(), self.device)
        barrier()  # a rank that has no room for it is heard here, and not waited for in the midst of gathering
        return self.solver.restore_network({name: full_tensor(tensor) for name, tensor in tensors.items()}).to(self.device)

    def whole_objective(self) -> nn.Module:
        """Collective. The objective of `whole_network`."""
        return self.solver.build_objective(self.whole_network()) if self.state.is_shared else self.state.objective


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


def _call(stage: Callable[[int], Values], steps_done: int) -> Values:
    return dict(stage(steps_done))


def _timed_next(batches: Iterator[Any]) -> tuple[Any, float]:
    began_s = time.monotonic()
    return next(batches), time.monotonic() - began_s


def _totals(parts: Sequence[Mapping[str, Sum]]) -> dict[str, Sum]:
    """The sums of all micro batches together."""
    first, *others = parts
    totals = dict(first)
    for part in others:
        totals = {name: Sum(each.total + part[name].total, each.count + part[name].count) for name, each in totals.items()}
    return totals
