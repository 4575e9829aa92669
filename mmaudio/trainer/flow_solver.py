"""The flow task: which batches, what one training step is, and what each stage does."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch

from mmaudio.base.draws import Draws
from mmaudio.base.ranks import Ranks, wait_for_all
from mmaudio.base.settings import TrainSettings
from mmaudio.batches import Batch, Mixture, training_batches
from mmaudio.checkpoints.run_state import RunFiles
from mmaudio.flow.loss import draw_flow
from mmaudio.network import FlowTransformer
from mmaudio.trainer.descent import backward_, set_rate_
from mmaudio.trainer.flow_run import FlowRun, build_run
from mmaudio.trainer.keeper import RunKeeper, take_snapshot
from mmaudio.trainer.meters import Sum, Values
from mmaudio.trainer.objective import flow_batch, set_backend_flags
from mmaudio.trainer.run_settings import model_spec
from mmaudio.trainer.solver import Batches, Cadence, Plan, Solver, Stage
from mmaudio.trainer.sources import open_mixture
from mmaudio.trainer.stopping import stop_if_not_finite
from mmaudio.trainer.tracker import Tracker
from mmaudio.trainer.validation import SHAPES, loss_sums, validate


@dataclass(frozen=True)
class Extras:
    """What an entry point adds to training that training itself needs nothing of: sound, pictures, scores.

    Every rank calls them. `preview` gets the network, one row of the held-out data (or of the training data) and the
    finished iterations; `evaluate` the network, the finished iterations and whether its samples are to be kept, and gives
    scores to log; `finish` the file of the final weights.
    """

    preview: Callable[[FlowTransformer, Batch, int], None] | None = None
    evaluate: Callable[[FlowTransformer, int, bool], Mapping[str, float]] | None = None
    finish: Callable[[Path], None] | None = None


class FlowTask:
    """One run of flow training, as the engine sees it."""

    meter_shapes: Mapping[str, tuple[int, ...]] = SHAPES | {"grad_norm": (), "lr": ()}

    def __init__(self, settings: TrainSettings, files: RunFiles, ranks: Ranks, device: torch.device, extras: Extras) -> None:
        """Collective. Open the data and build the run, continuing what its folder holds."""
        self.settings, self.files, self.ranks, self.device, self.extras = settings, files, ranks, device, extras
        spec = model_spec(settings)
        self.train_rows: Mixture = open_mixture(settings, settings.data.train, spec, repeats=True)
        self.val_rows: Mixture | None = open_mixture(settings, settings.data.val, spec) if settings.data.val else None
        self.run: FlowRun = build_run(settings, files, ranks, device, self.train_rows)
        self.steps_done = self.run.steps_done

    def batches(self, steps_done: int) -> Batches:
        """This rank's part of the global batches from this iteration on."""
        batches = training_batches(
            self.train_rows,
            seed=self.settings.seed,
            start_step=steps_done,
            batch_size=self.settings.batch_size,
            rank=self.ranks.rank,
            world_size=self.ranks.world_size,
        )
        return cast(Batches, batches)

    def step(self, batch: Batch, steps_done: int) -> dict[str, Sum]:
        """Collective. One training iteration; `steps_done` are finished before it."""
        run, settings = self.run, self.settings
        chance = Draws(settings.seed, steps_done, batch.positions)  # a function of (seed, step, place in the global batch)
        draws = draw_flow(chance.to(self.device), *batch.a_mean.shape[1:])
        rate = run.schedule.learning_rate(steps_done)
        set_rate_(run.optimizer, rate)
        loss_b, t_b = run.module(flow_batch(batch, chance, run.objective.settings.nulls, self.device), draws)
        grad_norm = backward_(loss_b.mean(), run.optimizer, settings.clip_grad_norm, scaled=settings.enable_grad_scaler)
        stop_if_not_finite(loss_b, grad_norm, batch.ids, steps_done)
        run.optimizer.step()
        if run.ema and steps_done >= settings.ema.start:
            run.ema.follow()
            if run.ema.updates_done % settings.ema.checkpoint_every == 0:
                take_snapshot(settings, self.files, run.ema)
        return {**loss_sums(loss_b, t_b), "grad_norm": Sum.of(grad_norm[None]), "lr": Sum.of(torch.tensor([rate]))}

    def stages(self) -> Sequence[Stage]:
        """Validation (none at all where its interval is 0), and what the entry point added."""
        settings, stages = self.settings, []
        if self.val_rows is not None and settings.val_interval:
            stages.append(Stage("valid", Cadence(settings.val_interval), self._validate, settings.validate_first, at_end=True))
        if self.extras.preview is not None:
            stages.append(Stage("preview", Cadence(settings.log_extra_interval), self._preview, at_start=True))
        if self.extras.evaluate is not None:
            stages.append(Stage("evaluate", Cadence(settings.eval_interval), self._evaluate))
        return stages

    def _validate(self, _steps_done: int) -> Values:
        assert self.val_rows is not None
        rows_at_once = self.settings.batch_size // self.ranks.world_size
        return validate(
            self.run.objective,
            self.val_rows,
            seed=self.settings.seed,
            batch_size=rows_at_once,
            ranks=self.ranks,
            device=self.device,
        )

    def _preview(self, steps_done: int) -> Values:
        assert self.extras.preview is not None
        rows = self.val_rows or self.train_rows
        self.extras.preview(self.run.network, rows.gather(torch.zeros(1, dtype=torch.int64)), steps_done)
        return {}

    def _evaluate(self, steps_done: int) -> Values:
        assert self.extras.evaluate is not None
        keeps = Cadence(self.settings.save_eval_interval).due(steps_done)
        return dict(self.extras.evaluate(self.run.network, steps_done, keeps))


def _plan(settings: TrainSettings) -> Plan:
    return Plan(
        settings.num_iterations,
        log=Cadence(settings.log_text_interval),
        weights=Cadence(settings.save_weights_interval),
        checkpoint=Cadence(settings.save_checkpoint_interval),
        copies=Cadence(also=settings.save_copy_iterations),
        saves_at_exit=not settings.debug,
    )


def train(settings: TrainSettings, run_dir: Path, ranks: Ranks, device: torch.device, extras: Extras | None = None) -> bool:
    """Collective. Train a run to its end, from wherever it stands. False if it was asked to stop before the end."""
    set_backend_flags(settings)
    files, extras = RunFiles(run_dir, settings.name()), extras or Extras()
    task = FlowTask(settings, files, ranks, device, extras)
    keeper = RunKeeper(settings, files, task.run, writes=ranks.is_first)
    tracker = Tracker(run_dir, writes=ranks.is_first, steps_done=task.steps_done)
    try:
        steps_done = Solver(task, keeper, _plan(settings), tracker).run()
    finally:
        tracker.close()
    if steps_done < settings.num_iterations:
        return False
    keeper.save_averages(steps_done)
    wait_for_all()
    if extras.finish is not None:
        extras.finish(files.ema_final if files.ema_final.exists() else files.weights_last)
    return True
