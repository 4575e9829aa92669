"""Averages of a trained run, from its snapshots, and which length of averaging suits it."""

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmaudio.base.errors import UserError
from mmaudio.batches import Mixture
from mmaudio.batches.sources import open_mixture
from mmaudio.checkpoints.ema_snapshots import GB, SnapshotFolder, check_owner
from mmaudio.checkpoints.load import load_weights, read_record
from mmaudio.checkpoints.posthoc_ema import Fit
from mmaudio.checkpoints.run_files import RunFiles
from mmaudio.checkpoints.save import save_file
from mmaudio.distributed.ranks import Ranks
from mmaudio.network import load_network
from mmaudio.settings.schema import TrainSettings
from mmaudio.trainer.flow_solver import FlowObjective, flow_settings, validate
from mmaudio.trainer.model_settings import (
    ema_constants,
    ema_folder,
    final_cond,
    model_spec,
    set_backend_flags,
    snapshot_owner,
    uses_amp,
    weights_record,
)

log = logging.getLogger(__name__)
SUMS_BYTES = 4 * GB  # of the averages that are summed in one reading of the snapshots


@dataclass(frozen=True)
class RunAverages:
    """The snapshots of a run, and how the averages that are wanted of them are made."""

    settings: TrainSettings
    files: RunFiles
    found: SnapshotFolder
    sigmas: tuple[float, ...]
    fits: tuple[Fit, ...]  # of each sigma

    @classmethod
    def open(cls, settings: TrainSettings, files: RunFiles, sigmas: Sequence[float], n: int | None = None) -> "RunAverages":
        """The averages of these widths after n EMA updates (None: the newest that are stored). Reads no tensor.

        Raises: UserError for a run without snapshots of its own, and for widths or an n that they do not give.
        """
        folder = ema_folder(settings, files)
        if not settings.ema.enable:
            raise UserError(f"the run {files.folder} was trained with ema.enable=False, so there are no averages of it")
        check_owner(folder, snapshot_owner(settings, files))
        found = SnapshotFolder.open(folder, settings.ema.sigma_rels)
        return cls(settings, files, found, tuple(sigmas), tuple(found.fit(sigma, n) for sigma in sigmas))

    @property
    def n(self) -> int:
        """EMA updates behind each of them."""
        return self.fits[0].wanted.n

    def state_dicts(self) -> Iterator[dict[str, Tensor]]:
        """Each average, in order: as many in one reading of the snapshots as their sums have room for."""
        num_at_once = max(1, SUMS_BYTES * len(self.found.snapshots) // self.found.num_bytes)
        for start in range(0, len(self.fits), num_at_once):
            log.info("reading %d snapshots, %.3g GB", len(self.found.snapshots), self.found.num_bytes / GB)
            sums = self.found.sums(self.fits[start : start + num_at_once], ema_constants(self.settings))
            while sums:
                yield sums.pop(0)  # given up here, so that its memory is free once its user is done

    def write(self, path: Path) -> None:
        """Write the first of them as weights of the run, its record beside it."""
        save_file(path, next(self.state_dicts()), weights_record(self.settings, self.settings.ema.start + self.n))


# ---- Which length of averaging suits a run: averages of many widths, each scored by the loss on held-out rows

FORMAT_VERSION = 1  # of the entries of a sweep
MOST_ROWS = 64  # at a time, unless asked otherwise; the loss does not depend on it


@dataclass(frozen=True)
class Score:
    """The loss of one average (None: no finite number), and how well the snapshots could make it (`Fit.error`)."""

    sigma: float
    loss: float | None
    fit_error: float


@dataclass(frozen=True)
class Live:
    """The loss of the weights that were not averaged, and the iterations finished then (None: no record says so)."""

    file: str
    step: int | None
    loss: float | None


@dataclass(frozen=True)
class Sweep:
    """Scores of a run's averages after `step` EMA updates, in the order asked for."""

    step: int
    scores: tuple[Score, ...]
    live: Live | None
    val: tuple[str, ...]  # names of the sources
    num_rows: int

    @property
    def best(self) -> Score:
        """The average with the least loss."""
        return min(self.scores, key=lambda score: _number(score.loss))

    def entries(self) -> dict[str, Any]:
        """What is written as JSON."""
        return {
            "format_version": FORMAT_VERSION,
            "step": self.step,
            "sigmas": [score.sigma for score in self.scores],
            "losses": [score.loss for score in self.scores],
            "fit_errors": [score.fit_error for score in self.scores],
            "best": asdict(self.best),
            "live": asdict(self.live) if self.live else None,
            "val": list(self.val),
            "num_rows": self.num_rows,
        }


def sweep(averages: RunAverages, device: torch.device, batch_size: int | None = None) -> Sweep:
    """Score every average, and the run's last weights beside them.

    Raises: UserError for a run without validation data, or whose stores are gone.
    """
    settings, files = averages.settings, averages.files
    if not settings.data.val:
        raise UserError(f"the run {files.folder} names no validation data (data.val), so nothing says which average is best")
    rows = open_mixture(settings, settings.data.val, model_spec(settings))
    set_backend_flags(settings)

    def loss(weights: dict[str, Tensor]) -> float | None:
        return _loss(settings, weights, rows, device, batch_size or min(MOST_ROWS, settings.batch_size))

    live = None
    if files.weights_last.is_file():
        record = read_record(files.weights_last)
        live = Live(files.weights_last.name, record.step if record else None, loss(load_weights(files.weights_last)))
    scores = []
    for sigma, fit, weights in zip(averages.sigmas, averages.fits, averages.state_dicts(), strict=True):
        scores.append(Score(sigma, loss(weights), fit.error))
        log.info("sigma %g: validation loss %.6g (%d of %d)", sigma, _number(scores[-1].loss), len(scores), len(averages.sigmas))
    return Sweep(averages.n, tuple(scores), live, settings.data.val, len(rows))


def _loss(settings: TrainSettings, weights: dict[str, Tensor], rows: Mixture, device: torch.device, batch_size: int) -> float | None:
    """What the run's own validation says of these weights."""
    network = load_network(weights, settings.model, duration_s=settings.duration_s, final_cond=final_cond(settings)).to(device)
    objective = FlowObjective(network, flow_settings(settings), amp=uses_amp(settings, device))
    loss = validate(objective, rows, seed=settings.seed, batch_size=batch_size, ranks=Ranks(), device=device)["loss"]
    assert isinstance(loss, float)
    return loss if math.isfinite(loss) else None


def _number(loss: float | None) -> float:
    return math.inf if loss is None else loss
