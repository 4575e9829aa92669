"""Stored averages, their budget, and others made of them.

Snapshots have a published format, and a folder of them may be named by several runs, so neither their names nor their content tell whose
they are. What the record does not list is not the run's: it is neither averaged nor moved nor removed.
"""

import logging
import math
import os
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmaudio.base.errors import UserError
from mmaudio.checkpoints.posthoc_ema import Fit, Profile, check_sigma, fit_profile
from mmaudio.files.atomic import atomic_path, parse_json, scratch_folder, text_hash, write_json
from mmaudio.files.checksums import DamagedFileError
from mmaudio.files.ownership import MARK_KEY, aside_path, fits, foreign, mark_of, move_aside, read_mark
from mmaudio.files.tensor_files import read_tensor_file

log = logging.getLogger(__name__)
RECORD_FILE = "snapshots.json"
_KIND = "ema snapshots"
_FILES = "snapshots"


@dataclass(frozen=True)
class SnapshotOwner:
    """The run that stores snapshots in a folder.

    Attributes:
        run_id: tells runs of one exp_id in different folders apart; None where the run has none.
        is_at_home: whether the folder is the one in the run's own, whose place says whose it is.
    """

    exp_id: str
    run_id: str | None = None
    is_at_home: bool = True

    def is_owner_of(self, mark: Mapping[str, Any] | None) -> bool:
        return fits(mark, _KIND, self.exp_id) and (self.is_at_home or (mark or {}).get("run") == self.run_id)


def check_owner(folder: Path, owner: SnapshotOwner) -> None:
    """Raises: UserError where a folder holds the snapshots of another run, or a file that is no record of ours under its name."""
    record = folder / RECORD_FILE
    if not record.exists():
        return
    mark = read_mark(record)
    if mark is None or mark.get("kind") != _KIND:
        raise foreign(record, "name another folder: ema.checkpoint_folder")
    if not owner.is_owner_of(mark):
        name = mark.get("of")
        other = f"the run {name!r}" if name != owner.exp_id else f"another run called {name!r}, in another folder"
        advice = "name another ema.checkpoint_folder, or leave it out: they then go to the run's own"
        raise UserError(f"{folder} holds the EMA snapshots of {other}; {advice}")


def claim(folder: Path, owner: SnapshotOwner, files: list[Path]) -> None:
    """Take a folder for the snapshots of a run, unless it is this run's already.

    Args:
        files: snapshots that are there, and are the run's own, where no record says whose they are.
    Raises: UserError as `check_owner`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = _content(owner, {path.name: [archive_sums(path)] for path in files})
    if not (folder / RECORD_FILE).exists() and _is_new(folder / RECORD_FILE, content):
        return
    check_owner(folder, owner)
    if read_mark(folder / RECORD_FILE) != content[MARK_KEY]:  # the run's folder, and what names the run, were moved
        write_json(folder / RECORD_FILE, {**content, _FILES: recorded_snapshots(folder)})


def _content(owner: SnapshotOwner, files: Mapping[str, list[str]]) -> dict[str, Any]:
    return {MARK_KEY: mark_of(_KIND, owner.exp_id, run=owner.run_id), _FILES: dict(files)}


def _is_new(path: Path, content: Mapping[str, Any]) -> bool:
    """Write a record where there is none; False where another process was first."""
    with scratch_folder(path) as scratch:
        write_json(scratch / path.name, content)
        try:
            os.link(scratch / path.name, path)
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links
            write_json(path, content)
    return True


def recorded_snapshots(folder: Path) -> dict[str, list[str]] | None:
    """File name → sums that it may have, of all that the run stored in a folder; None where no record says so."""
    path = folder / RECORD_FILE
    mark = read_mark(path)
    if mark is None or mark.get("kind") != _KIND:
        return None
    files = parse_json(path.read_text(encoding="utf-8")).get(_FILES)
    return files if isinstance(files, dict) else {}


def note_snapshot(folder: Path, name: str, sums: list[str]) -> None:
    """Record which sums a snapshot has; with none, that it is gone. Without effect in a folder that no run has claimed."""
    files = recorded_snapshots(folder)
    if files is None:
        return
    files = {other: known for other, known in files.items() if other != name} | ({name: sums} if sums else {})
    write_json(folder / RECORD_FILE, {MARK_KEY: read_mark(folder / RECORD_FILE), _FILES: files})


def archive_sums(path: Path) -> str:
    """What tells the content of one file of torch from that of another: a hash of its archive's own checksums. Reads no tensor."""
    try:
        with zipfile.ZipFile(path) as archive:
            parts = [(entry.filename.partition("/")[2], entry) for entry in archive.infolist()]
    except (OSError, ValueError, LookupError, NotImplementedError, zipfile.BadZipFile):
        return f"{path.stat().st_size} bytes" if path.is_file() else ""
    return text_hash(f"{name} {entry.file_size} {entry.CRC:08x}" for name, entry in parts)


# ---- Snapshots: their files, and the sums that make other averages of them

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


# ---- Other averages, made of the snapshots


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


# ---- Which snapshots stay on disk: those within the budget, spread so that other averages can still be made of them

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
