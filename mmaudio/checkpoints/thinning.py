"""Which stored averages of a run stay on disk: those within its budget, spread so that other averages can still be made of them."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path

from mmaudio.base.errors import UserError
from mmaudio.checkpoints.snapshot_record import note_snapshot
from mmaudio.checkpoints.snapshots import list_snapshots

log = logging.getLogger(__name__)
MB, GB = 10**6, 10**9

# Kept steps are spread evenly in n to this power. Measured by the error of the fits of sigma 0.05 … 0.2 at the end of runs of
# 60 and 200 snapshots thinned to 3 … 24 steps: on average 8 to 31 % less than with even steps, 2 to 9 times less than with
# even log(n).
EVEN_POWER = 1.5


def steps_to_remove(steps: Sequence[int], bytes_per_step: int, budget_bytes: float) -> list[int]:
    """Which stored steps to give up so that the rest fits; never the newest. Deciding anew after every snapshot is intended.

    One after another, the step whose neighbours are closest to each other goes (the first has a neighbour at 0), and of
    several the oldest.
    """
    kept, removed = sorted(set(steps)), list[int]()
    while len(kept) > 1 and len(kept) * bytes_per_step > budget_bytes:
        places = [0.0, *(step**EVEN_POWER for step in kept)]
        gaps = [after - before for before, after in zip(places[:-2], places[2:], strict=True)]  # of all but the newest
        removed.append(kept.pop(gaps.index(min(gaps))))
    return sorted(removed)


def check_budget(bytes_per_step: int, max_gb: float) -> None:
    """Raises: UserError for a budget without room for two steps, of which no average over the run can be made."""
    if 2 * bytes_per_step > max_gb * GB:
        need_gb = math.ceil(2 * bytes_per_step / MB) * MB / GB
        raise UserError(
            f"ema.max_snapshots_gb is {max_gb:g}, but the averages of this network take {bytes_per_step / GB:.3g} GB each time they"
            f" are stored; want room for two times, at least {need_gb:g}, or ema.enable=False"
        )


def thin_snapshots(folder: Path, max_gb: float) -> None:
    """Remove snapshots of the run, all profiles of a step together, until they are within its budget."""
    snapshots = list_snapshots(folder)
    newest = max(snapshot.n for snapshot in snapshots)
    bytes_per_step = sum(snapshot.path.stat().st_size for snapshot in snapshots if snapshot.n == newest)
    removed = steps_to_remove([snapshot.n for snapshot in snapshots], bytes_per_step, max_gb * GB)
    for snapshot in snapshots:
        if snapshot.n in removed:
            snapshot.path.unlink()
            note_snapshot(folder, snapshot.path.name, [])
    if removed:
        kept = sorted({snapshot.n for snapshot in snapshots} - set(removed))
        told = [", ".join(map(str, steps)) for steps in (removed, kept)]
        log.info("ema.max_snapshots_gb=%g: removed the EMA snapshots of step %s; kept are %s", max_gb, *told)
