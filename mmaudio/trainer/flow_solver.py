"""The flow task: a velocity learned from stores of latents and features. What the engine trains unless `solver=` says otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import torch
from torch import Tensor, nn

from mmaudio.base.compiling import CompiledCall
from mmaudio.base.draws import Draws
from mmaudio.base.errors import Problems
from mmaudio.base.ranks import Ranks
from mmaudio.base.settings import TrainSettings
from mmaudio.batches import Batch, Mixture, Placement, num_steps_per_epoch, shard, training_batches, training_rows
from mmaudio.checkpoints.run_state import WeightsRecord
from mmaudio.flow.loss import draw_flow
from mmaudio.network import STALE_KEYS, FlowTransformer, build_network, load_network
from mmaudio.trainer.checks import check_training
from mmaudio.trainer.costs import flops_per_row
from mmaudio.trainer.feeding import flow_batch
from mmaudio.trainer.meters import Values
from mmaudio.trainer.objective import FlowObjective, flow_settings
from mmaudio.trainer.precision import set_backend_flags
from mmaudio.trainer.run_settings import final_cond, model_spec, weights_record
from mmaudio.trainer.solver import Loss, Solver
from mmaudio.trainer.sources import null_text, open_mixture
from mmaudio.trainer.validation import SHAPES, loss_sums, validate


class FlowSolver(Solver):
    """Flow training on the stores that the settings name."""

    best_metric = "valid/loss"
    meters = MappingProxyType({name: shape for name, shape in SHAPES.items() if name != "loss"})
    stale_keys = STALE_KEYS  # the published system averaged them where its weights had them

    @classmethod
    def check(cls, settings: TrainSettings, run_dir: Path, ranks: Ranks, problems: Problems) -> None:
        """As `check_training`."""
        check_training(settings, run_dir, ranks, problems)

    @classmethod
    def validated(cls, settings: TrainSettings) -> tuple[str, ...]:
        """Nothing without held-out rows."""
        return super().validated(settings) if settings.data.val else ()

    # ---- data

    def open_data(self) -> None:
        """The rows that are trained on, and those that are held out, if any."""
        set_backend_flags(self.settings)
        self._draw = CompiledCall(draw_flow) if self.compiles else draw_flow
        settings, spec = self.settings, model_spec(self.settings)
        self.train_rows: Mixture = open_mixture(settings, settings.data.train, spec, repeats=True)
        self.val_rows: Mixture | None = open_mixture(settings, settings.data.val, spec) if settings.data.val else None
        self.train_place = self._place(self.train_rows)
        self.val_place = self._place(self.val_rows) if self.val_rows is not None else None

    def _place(self, rows: Mixture) -> Placement:
        kind, captions_gb = self.settings.placement, self.settings.caption_table_gb
        return Placement.of(rows, self.device, kind, captions_gb, lambda: self.beat("start", 0))

    def build_batches(self, stage: str, steps_done: int) -> Iterator[Batch]:
        """This rank's part of the global batches from this iteration on. Validation reads rows of its own."""
        assert stage == "train"
        return training_batches(
            self.train_rows,
            seed=self.settings.seed,
            start_step=steps_done,
            batch_size=self.settings.batch_size,
            rank=self.ranks.rank,
            world_size=self.ranks.world_size,
            device=self.device,
            placement=self.train_place,
            num_threads=self.settings.num_workers,
        )

    def micro_batches(self, batch: Batch) -> Sequence[Batch]:
        """Parts of at most `micro_batch` rows."""
        most = self.settings.micro_batch or len(batch)
        return [batch.part(start, min(start + most, len(batch))) for start in range(0, len(batch), most)]

    def names_of(self, steps_done: int) -> Sequence[str]:
        """Ids of this rank's rows, each behind the name of its source."""
        rows = training_rows(len(self.train_rows), self.settings.batch_size, self.settings.seed, steps_done)
        mine, _ = shard(rows, self.ranks.rank, self.ranks.world_size)
        selection = self.train_rows.select(mine)
        sources = [self.train_rows.sources[owner].name for owner in selection.owners.tolist()]
        return [f"{source}/{row_id}" for source, row_id in zip(sources, self.train_rows.ids_of(selection), strict=True)]

    def flops_per_row(self) -> float:
        """Of one that is told everything."""
        return flops_per_row(self.settings.model, self.settings.duration_s, freeze=self.settings.freeze)

    def updates_per_epoch(self) -> int:
        """As the settings say, or one pass over the data."""
        return self.settings.updates_per_epoch or num_steps_per_epoch(len(self.train_rows), self.settings.batch_size)

    # ---- network

    def _sizes(self) -> dict[str, Any]:
        return {"duration_s": self.settings.duration_s, "final_cond": final_cond(self.settings)}

    def build_network(self) -> FlowTransformer:
        """Of the named model, with the statistics and the null text of the data."""
        mean_c, std_c = self.train_rows.latent_statistics()
        text = null_text(self.train_rows.sources, self.settings)
        return build_network(self.settings.model, latent_mean=mean_c, latent_std=std_c, empty_string_feat=text, **self._sizes())

    def restore_network(self, weights: Mapping[str, Tensor]) -> FlowTransformer:
        """Raises: UserError for weights of another model."""
        return load_network(dict(weights), self.settings.model, **self._sizes())

    def build_objective(self, network: nn.Module) -> FlowObjective:
        """The flow loss."""
        return FlowObjective(cast(FlowTransformer, network), flow_settings(self.settings), amp=self.amp)

    def record(self, steps_done: int) -> WeightsRecord:
        """What generating needs to know."""
        return weights_record(self.settings, steps_done)

    # ---- steps and stages

    def loss(self, module: nn.Module, batch: Batch, steps_done: int) -> Loss:
        """The flow loss of training rows; its draws are a function of (seed, step, place in the global batch)."""
        chance = Draws(self.settings.seed, steps_done, batch.positions)
        draws = self._draw(chance.to(self.device), *batch.a_mean.shape[1:])
        loss_b, t_b = module(flow_batch(batch, chance, flow_settings(self.settings).nulls, self.device), draws)
        return Loss(loss_b, {name: each for name, each in loss_sums(loss_b, t_b).items() if name in self.meters})

    def stages(self) -> Mapping[str, Callable[[int], Values]]:
        """Validation where there are held-out rows, and what the entry point added."""
        return {name: stage for name, stage in super().stages().items() if name != "valid" or self.val_rows is not None}

    @torch.no_grad()
    def valid(self, steps_done: int) -> Values:
        """Collective. The loss on held-out rows, whose draws are a function of (seed, row id)."""
        assert self.val_rows is not None

        def beat_or_leave() -> None:
            self.beat("valid", steps_done)
            self.stop.look()

        return validate(
            cast(FlowObjective, self.whole_objective()),
            self.val_rows,
            seed=self.settings.seed,
            batch_size=min(self.rows_per_rank, self.settings.micro_batch or self.rows_per_rank),
            ranks=self.ranks,
            device=self.device,
            placement=self.val_place,
            num_threads=self.settings.num_workers,
            max_rows=self.settings.valid.max_rows,
            beat=beat_or_leave,
        )
