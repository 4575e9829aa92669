"""FlowSolver: the flow task: its data, its network, the loss of a batch in training and on held-out rows."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import torch
from torch import Tensor, nn

from mmaudio.base.errors import Problems, listed
from mmaudio.base.rng import CounterRng, text_item
from mmaudio.batches import Batch, Mixture, Placement, num_steps_per_epoch, shard, training_batches, training_rows, validation_batches
from mmaudio.batches.sources import null_text, open_mixture
from mmaudio.checkpoints.run_files import WeightsRecord
from mmaudio.distributed.collectives import barrier, gather_objects
from mmaudio.distributed.devices import CompiledCall
from mmaudio.distributed.ranks import Ranks
from mmaudio.flow.guidance import ConditionDropout, choose_present, draw_dropout
from mmaudio.flow.loss import NUM_TIME_BINS, FlowBatch, FlowDraws, FlowSettings, bin_by_time, draw_flow, flow_loss
from mmaudio.network import STALE_KEYS, FlowTransformer, build_network, find_variant, load_network
from mmaudio.settings.schema import TrainSettings
from mmaudio.trainer.checks import check_training
from mmaudio.trainer.costs import flops_per_row
from mmaudio.trainer.meters import Meters, Sum, Values
from mmaudio.trainer.model_settings import final_cond, model_spec, set_backend_flags, weights_record
from mmaudio.trainer.solver import Loss, Solver

log = logging.getLogger(__name__)
SHAPES: dict[str, tuple[int, ...]] = {"loss": (), "binned_loss": (NUM_TIME_BINS,)}  # of what `loss_sums` gives


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
        """Of one that has all conditions."""
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
        chance = CounterRng(self.settings.seed, steps_done, batch.positions)
        draws = self._draw(chance.to(self.device), *batch.a_mean.shape[1:])
        loss_b, t_b = module(to_flow_batch(batch, chance, flow_settings(self.settings).nulls, self.device), draws)
        return Loss(loss_b, {name: each for name, each in loss_sums(loss_b, t_b).items() if name in self.meters})

    @torch.no_grad()
    def valid(self, objective: nn.Module, steps_done: int, progress: Callable[[], None]) -> Values:  # noqa: ARG002 - the same at any step
        """Collective. The loss on held-out rows, whose draws are a function of (seed, row id)."""
        assert self.val_rows is not None
        return validate(
            cast(FlowObjective, objective),
            self.val_rows,
            seed=self.settings.seed,
            batch_size=min(self.rows_per_rank, self.settings.micro_batch or self.rows_per_rank),
            ranks=self.ranks,
            device=self.device,
            placement=self.val_place,
            num_threads=self.settings.num_workers,
            max_rows=self.settings.valid.max_rows,
            progress=progress,
        )


# ---- From a batch of stored rows to what the objective is computed on


def to_flow_batch(batch: Batch, chance: CounterRng, nulls: ConditionDropout, device: torch.device) -> FlowBatch:
    """What the objective needs of a batch, on the device. Who gets which conditions is decided on the CPU, where nothing has to wait.

    Conditions stay as they are stored: the network widens those that a sample gets when it takes them. Latents define the target
    and are float32.

    Args:
        batch: of which only samples with video have rows of clip and sync features.
        chance: of the rows of the batch, on the CPU.
    """
    present = choose_present(batch.video_exist, batch.text_exist, draw_dropout(chance), nulls).among_videos(batch.video_exist).to(device)
    captions = replace(present.text, rows=batch.text_rows.index_select(0, present.text.rows))
    return FlowBatch(
        a_mean=batch.a_mean.to(device, torch.float32),
        a_std=batch.a_std.to(device, torch.float32),
        clip_features=batch.clip_features.to(device),
        sync_features=batch.sync_features.to(device),
        text_features=batch.text_table.to(device),
        present=replace(present, text=captions),
    )


# ---- The training objective as a module: what runs in bf16, and whose gradients the ranks average


class FlowObjective(nn.Module):
    """The flow loss of a batch. It calls more of the network than its forward, so the loss is the module.

    Args:
        amp: whether it runs under bf16 autocast.
    """

    def __init__(self, network: FlowTransformer, settings: FlowSettings, *, amp: bool) -> None:
        super().__init__()
        self.network, self.settings, self.amp = network, settings, amp

    def forward(self, batch: FlowBatch, draws: FlowDraws) -> tuple[Tensor, Tensor]:
        """Loss and time of each sample, (batch,) float32. The draws come in as tensors, so that a new step compiles nothing anew."""
        with self._precision(batch.a_mean.device):
            loss = flow_loss(self.network, batch, draws, self.settings)
        return loss.loss_b, loss.t_b

    def _precision(self, device: torch.device) -> AbstractContextManager[object]:
        return torch.autocast(device.type, torch.bfloat16, enabled=self.amp)


def flow_settings(settings: TrainSettings) -> FlowSettings:
    """The constants of the objective, as the settings name them, or where they do not, as the variant has them."""
    sampling, variant = settings.sampling, find_variant(settings.model)
    nulls = ConditionDropout(settings.null_condition_probability, settings.null_sampling or variant.null_sampling, settings.drop_conditions)
    return FlowSettings(sampling.mean, sampling.scale, sampling.min_sigma, nulls)


# ---- The loss on held-out rows: one number for one network, whatever the batch size and the number of processes


@torch.no_grad()
def validate(
    objective: FlowObjective,
    mixture: Mixture,
    *,
    seed: int,
    batch_size: int,
    ranks: Ranks,
    device: torch.device,
    placement: Placement | None = None,
    num_threads: int | None = None,
    max_rows: int | None = None,
    progress: Callable[[], None] = lambda: None,
) -> Values:
    """Collective. Average loss, and loss by time, over every row once, or the first `max_rows`. Its noise is a function of (seed, row id).

    Args:
        batch_size: rows of one rank at a time.
        placement, num_threads, max_rows: as in `validation_batches`.
        progress: called after every batch; what it raises on some ranks only, `attempt` tells to all.
    """
    meters, bad = Meters(SHAPES, device), list[tuple[list[str], Tensor]]()
    parts = validation_batches(
        mixture,
        batch_size=batch_size,
        rank=ranks.rank,
        world_size=ranks.world_size,
        device=device,
        placement=placement,
        num_threads=num_threads,
        max_rows=max_rows,
    )
    with closing(parts):
        for batch in parts:
            chance = CounterRng(seed, 0, torch.tensor([text_item(row_id) for row_id in batch.ids]))
            draws = draw_flow(chance.to(device), *batch.a_mean.shape[1:])
            loss_b, t_b = objective(to_flow_batch(batch, chance, objective.settings.nulls, device), draws)
            meters.add(loss_sums(loss_b, t_b))
            bad.append((batch.ids, ~torch.isfinite(loss_b)))
            progress()
    barrier()  # where a rank that was asked to stop is heard
    values = meters.pop()
    if not math.isfinite(cast(float, values["loss"])):  # on all ranks
        _warn_of_bad_rows([row_id for ids, is_bad_b in bad for row_id, is_bad in zip(ids, is_bad_b.tolist(), strict=True) if is_bad])
    return values


def loss_sums(loss_b: Tensor, t_b: Tensor) -> dict[str, Sum]:
    """A batch's loss and loss by time."""
    binned = bin_by_time(loss_b.detach(), t_b)
    return {"loss": Sum.of(loss_b.detach()), "binned_loss": Sum(binned.total, binned.count)}


def _warn_of_bad_rows(mine: list[str]) -> None:
    """Collective. Warn of the rows whose loss is not finite; `mine` are those of this rank."""
    rows = [row_id for each in gather_objects(mine) for row_id in each]
    log.warning("the validation loss is not finite, because of %s; check these rows, or the network", listed(rows) or "the sum of all rows")
