"""Stored averages of a run: their files, and the sums that make other averages of them.

The files are those of the published system: `<profile>.<n>.pt` after n updates, a flat dictionary of `_extra_state` and
`ema_model.<name>`. What to sum is worked out in `posthoc_ema`, which of them stay on disk in `thinning`.
"""

import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmaudio.base.errors import UserError
from mmaudio.base.files import atomic_path
from mmaudio.base.ownership import aside_path, move_aside
from mmaudio.base.tensor_files import DamagedFileError, read_tensor_file
from mmaudio.checkpoints.posthoc_ema import Fit, Profile, check_sigma, fit_profile
from mmaudio.checkpoints.snapshot_record import SnapshotOwner, archive_sums, claim, note_snapshot, recorded_snapshots

log = logging.getLogger(__name__)
CONSTANTS = ("latent_mean", "latent_std", "empty_string_feat")  # of the data: copied, never summed
_STATE = "_extra_state"
_PREFIX = "ema_model."
_SNAPSHOT = re.compile(r"(\d+)\.(\d+)\.pt")


@dataclass(frozen=True)
class Snapshot:
    """One stored average: `<index>.<n>.pt`."""

    path: Path
    index: int
    n: int


def snapshot_files(folder: Path) -> list[Snapshot]:
    """Every file in a folder that is called like a snapshot, by (profile, n)."""
    found = ((path, _SNAPSHOT.fullmatch(path.name)) for path in folder.glob("*.pt"))
    return sorted((Snapshot(path, int(match[1]), int(match[2])) for path, match in found if match), key=lambda s: (s.index, s.n))


def list_snapshots(folder: Path) -> list[Snapshot]:
    """The snapshots in a folder, by (profile, n): those of the run whose it is; all of them where no record says whose it is."""
    known = recorded_snapshots(folder)
    return [each for each in snapshot_files(folder) if known is None or _is_own(each.path, known)]


def _is_own(path: Path, known: Mapping[str, Sequence[str]]) -> bool:
    """Whether a file is what the run stored under its name."""
    is_same = archive_sums(path) in known.get(path.name, ())
    if path.name in known and not is_same:
        log.warning("%s is not the EMA snapshot that the run stored there, and is left alone", path)
    return is_same


def claim_snapshots(folder: Path, owner: SnapshotOwner) -> None:
    """Take a folder for the snapshots of a run, with those that are there if no record says whose they are.

    Raises: UserError for a folder of another run.
    """
    claim(folder, owner, [snapshot.path for snapshot in snapshot_files(folder)])


def average_entries(average: Mapping[str, Tensor], n: int, initted: bool) -> dict[str, Any]:
    """One average in the published layout."""
    return {_STATE: {"initted": initted, "step": n}} | {f"{_PREFIX}{name}": tensor for name, tensor in average.items()}


def read_average(entries: Mapping[str, Any]) -> tuple[dict[str, Tensor], int, bool]:
    """The tensors, update count and `initted` flag of one average in the published layout."""
    state = entries[_STATE]
    tensors = {name.removeprefix(_PREFIX): value for name, value in entries.items() if name.startswith(_PREFIX)}
    return tensors, int(state["step"]), bool(state["initted"])


def save_snapshot(folder: Path, index: int, average: Mapping[str, Tensor], n: int) -> None:
    """Write one average after n updates, atomically, from the CPU. A file there that is not the run's is moved aside, and said."""
    path, known = folder / f"{index}.{n}.pt", recorded_snapshots(folder)
    with atomic_path(path) as temporary:
        torch.save(average_entries({name: tensor.detach().cpu() for name, tensor in average.items()}, n, True), temporary)
        if known is not None and path.exists() and not _is_own(path, known):
            move_aside(path, follows_link=True)
        note_snapshot(folder, path.name, [archive_sums(each) for each in (temporary, path) if each.exists()])


def save_snapshots(folder: Path, averages: Sequence[Mapping[str, Tensor]], n: int) -> None:
    """Write every average after n updates."""
    for index, average in enumerate(averages):
        save_snapshot(folder, index, average, n)


def _open_snapshot(snapshot: Snapshot) -> dict[str, Tensor]:
    """The tensors of a snapshot, read from disk only when they are used. Raises: UserError for a file that cannot be read."""
    try:
        return read_average(read_tensor_file(snapshot.path))[0]
    except (DamagedFileError, LookupError, TypeError, ValueError, AttributeError) as error:  # torn, or no average
        raise UserError(f"{snapshot.path} is no readable EMA snapshot ({type(error).__name__}); remove it") from None


def retire_snapshots(folder: Path, n: int) -> None:
    """Move snapshots past update n into `stale/`: an earlier run, or the lost end of this one, must not be mixed in."""
    stale = [snapshot for snapshot in list_snapshots(folder) if snapshot.n > n]
    for snapshot in stale:
        target = folder / "stale" / snapshot.path.name
        target.parent.mkdir(exist_ok=True)
        snapshot.path.rename(aside_path(target) if os.path.lexists(target) else target)
        note_snapshot(folder, snapshot.path.name, [])
    if stale:
        log.warning("moved %d EMA snapshots past update %d to %s", len(stale), n, folder / "stale")


# ---- other averages from the stored ones


@dataclass(frozen=True)
class SnapshotFolder:
    """All snapshots of a run, and the profile of each."""

    snapshots: tuple[Snapshot, ...]
    profiles: tuple[Profile, ...]

    @classmethod
    def open(cls, folder: Path, sigma_rels: Sequence[float]) -> "SnapshotFolder":
        """What a folder holds. `sigma_rels` are the widths of profile 0, 1, … of its snapshots.

        Raises: UserError for a folder without snapshots, or with one of a profile that has no width.
        """
        snapshots = list_snapshots(folder)
        if not snapshots:
            raise UserError(f"no EMA snapshots (<profile>.<step>.pt) in {folder}")
        if snapshots[-1].index >= len(sigma_rels):
            raise UserError(f"{folder} has snapshots of profile {snapshots[-1].index}, but only {len(sigma_rels)} sigmas are given")
        return cls(tuple(snapshots), tuple(Profile.of(sigma_rels[snapshot.index], snapshot.n) for snapshot in snapshots))

    @property
    def steps(self) -> list[int]:
        """The update counts that are stored, rising."""
        return sorted({snapshot.n for snapshot in self.snapshots})

    @property
    def num_bytes(self) -> int:
        """Of all files together."""
        return sum(snapshot.path.stat().st_size for snapshot in self.snapshots)

    def fit(self, sigma_rel: float, n: int | None = None) -> Fit:
        """How to make the average of width `sigma_rel` after n updates (None: the newest) of all snapshots, later ones too.

        Raises: UserError for a width out of range, or n updates that no snapshot stands for.
        """
        check_sigma(sigma_rel)
        steps = self.steps
        if n is not None and n not in steps:
            nearby = sorted(sorted(steps, key=lambda step: abs(step - n))[:4])
            told = f"{'stored are' if len(steps) <= len(nearby) else 'near it are'} {', '.join(map(str, nearby))}"
            raise UserError(f"no EMA snapshot of step {n} in {self.snapshots[0].path.parent}; {told}, and the newest is {steps[-1]}")
        return fit_profile(self.profiles, Profile.of(sigma_rel, steps[-1] if n is None else n))

    def sums(self, fits: Sequence[Fit], constants: Sequence[str] = CONSTANTS) -> list[dict[str, Tensor]]:
        """The averages of these fits, each a plain state dict in float32 on the CPU; every file is read once for all of them.

        Args:
            constants: patterns of the names that are copied from the newest snapshot; the weights of a sum do not add up to
                exactly 1, which would scale them.
        Raises: UserError for a snapshot that cannot be read, or lacks a tensor of the newest.
        """
        newest_file = max(self.snapshots, key=lambda snapshot: snapshot.n)
        newest = _open_snapshot(newest_file)
        summed = [name for name in newest if not any(fnmatchcase(name, pattern) for pattern in constants)]
        totals = [{name: torch.zeros(newest[name].shape) for name in summed} for _ in fits]
        for index, snapshot in enumerate(self.snapshots):
            weights = [float(fit.weights[index]) for fit in fits]
            if not any(weights):
                continue
            tensors = _open_snapshot(snapshot)
            for name in summed:
                if name not in tensors or tensors[name].shape != newest[name].shape:
                    raise UserError(f"{snapshot.path} and {newest_file.path} differ in {name}; move away the snapshots of another run")
                value = tensors[name].float()
                for total, weight in zip(totals, weights, strict=True):
                    total[name].add_(value, alpha=weight)
        return [{name: total[name] if name in total else tensor.float().clone() for name, tensor in newest.items()} for total in totals]


def synthesize(
    folder: Path, sigma_rels: Sequence[float], sigma_rel: float, n: int | None = None, constants: Sequence[str] = CONSTANTS
) -> dict[str, Tensor]:
    """The average of width `sigma_rel` after n updates (None: the newest), from every snapshot of the folder.

    Args:
        sigma_rels: width of profile 0, 1, … of the snapshots.
        constants: as in `SnapshotFolder.sums`.
    Returns: a plain state dict, float32 on the CPU.
    Raises: UserError, as `SnapshotFolder`.
    """
    found = SnapshotFolder.open(folder, sigma_rels)
    return found.sums([found.fit(sigma_rel, n)], constants)[0]
