"""Averages of a run that has been trained: which of them its snapshots give, and their files."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from mmaudio.base.errors import UserError
from mmaudio.base.settings import TrainSettings
from mmaudio.checkpoints.posthoc_ema import Fit
from mmaudio.checkpoints.run_state import RunFiles
from mmaudio.checkpoints.save import save_file
from mmaudio.checkpoints.snapshot_record import check_owner
from mmaudio.checkpoints.snapshots import SnapshotFolder
from mmaudio.checkpoints.thinning import GB
from mmaudio.trainer.run_settings import ema_constants, ema_folder, snapshot_owner, weights_record

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
