"""The loss on held-out rows: one number for one network, whatever the batch size and the number of processes."""

import logging
import math
from collections.abc import Callable
from contextlib import closing
from typing import cast

import torch

from mmaudio.base.draws import Draws, text_item
from mmaudio.base.naming import listed
from mmaudio.base.ranks import Ranks, gather_objects, wait_for_all
from mmaudio.batches import Mixture, Placement, validation_batches
from mmaudio.flow.loss import draw_flow
from mmaudio.flow.times import NUM_TIME_BINS, bin_by_time
from mmaudio.trainer.feeding import flow_batch
from mmaudio.trainer.meters import Meters, Sum, Values
from mmaudio.trainer.objective import FlowObjective

log = logging.getLogger(__name__)
SHAPES: dict[str, tuple[int, ...]] = {"loss": (), "binned_loss": (NUM_TIME_BINS,)}


def loss_sums(loss_b: torch.Tensor, t_b: torch.Tensor) -> dict[str, Sum]:
    """A batch's loss and loss by time."""
    binned = bin_by_time(loss_b.detach(), t_b)
    return {"loss": Sum.of(loss_b.detach()), "binned_loss": Sum(binned.total, binned.count)}


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
    beat: Callable[[], None] = lambda: None,
) -> Values:
    """Collective. Average loss, and loss by time, over every row once, or the first `max_rows`. Its noise is a function of (seed, row id).

    Args:
        batch_size: rows of one rank at a time.
        placement, num_threads, max_rows: as in `validation_batches`.
        beat: called after every batch; what it raises on some ranks only, `attempt` tells to all.
    """
    meters, bad = Meters(SHAPES, device), list[tuple[list[str], torch.Tensor]]()
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
            chance = Draws(seed, 0, torch.tensor([text_item(row_id) for row_id in batch.ids]))
            draws = draw_flow(chance.to(device), *batch.a_mean.shape[1:])
            loss_b, t_b = objective(flow_batch(batch, chance, objective.settings.nulls, device), draws)
            meters.add(loss_sums(loss_b, t_b))
            bad.append((batch.ids, ~torch.isfinite(loss_b)))
            beat()
    wait_for_all()  # where a rank that was asked to stop is heard
    values = meters.pop()
    if not math.isfinite(cast(float, values["loss"])):  # on all ranks
        _tell_bad_rows([row_id for ids, is_bad_b in bad for row_id, is_bad in zip(ids, is_bad_b.tolist(), strict=True) if is_bad])
    return values


def _tell_bad_rows(mine: list[str]) -> None:
    """Collective."""
    rows = [row_id for each in gather_objects(mine) for row_id in each]
    log.warning("the validation loss is not finite, because of %s; check these rows, or the network", listed(rows) or "the sum of all rows")
