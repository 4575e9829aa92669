"""Whether two runs ended in the same tensors: weights, optimizer and averages of their last checkpoints."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmaudio.checkpoints.run_files import RunFiles
from mmaudio.files.tensor_files import read_tensor_file

TOLERANCE = 1e-3  # of a tensor's largest value: what another order of summation may change


@dataclass(frozen=True)
class Difference:
    """A tensor that differs, by how much at most, and that relative to its largest value; nan where it cannot be said."""

    name: str
    largest: float
    relative: float
    told: str


@dataclass(frozen=True)
class CheckpointDifference:
    """How many tensors there are, how many differ, the first that does, and the largest relative difference of all."""

    num_tensors: int
    num_differing: int
    first: Difference | None
    most_relative: float


def tensors_by_path(entry: Any, path: str) -> dict[str, Tensor]:
    """Every tensor of a nest of dictionaries and lists, by its path: `optimizer/state/0/exp_avg`."""
    return dict(_walk(entry, path))


def _walk(entry: Any, path: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(entry, Tensor):
        yield path, entry
    items = entry.items() if isinstance(entry, Mapping) else enumerate(entry) if isinstance(entry, list | tuple) else ()
    for key, part in items:
        yield from _walk(part, f"{path}/{key}" if path else str(key))


def _read(folder: Path, exp_id: str) -> dict[str, Tensor]:
    files = RunFiles(folder, exp_id)
    found = {f"checkpoint: {name}": tensor for name, tensor in tensors_by_path(read_tensor_file(files.checkpoint_last), "").items()}
    if files.ema_final.is_file():
        found |= {f"averaged weights: {name}": tensor for name, tensor in tensors_by_path(read_tensor_file(files.ema_final), "").items()}
    return found


def compare_runs(folder: Path, other: Path, exp_id: str, tolerance: float = 0.0) -> CheckpointDifference:
    """Compare the ends of two runs.

    Args:
        tolerance: what two values may differ by, relative to the largest of their tensor; 0: nothing, bit for bit.
    Raises: UserError for a checkpoint that is missing or cannot be read.
    """
    mine, theirs = _read(folder, exp_id), _read(other, exp_id)
    names = [*mine, *(name for name in theirs if name not in mine)]
    found = [_difference(name, mine.get(name), theirs.get(name)) for name in names]
    differing = [each for each in found if each is not None and not each.relative <= tolerance]
    most = max((each.relative for each in found if each is not None), default=0.0)
    return CheckpointDifference(len(names), len(differing), differing[0] if differing else None, most)


def _difference(name: str, mine: Tensor | None, theirs: Tensor | None) -> Difference | None:
    nan = float("nan")
    if mine is None or theirs is None:
        return Difference(name, nan, nan, "is only in one of the two")
    if (mine.shape, mine.dtype) != (theirs.shape, theirs.dtype):
        return Difference(
            name, nan, nan, f"is {tuple(mine.shape)} in one and {tuple(theirs.shape)} in the other ({mine.dtype}, {theirs.dtype})"
        )
    if torch.equal(mine.reshape(-1).view(torch.uint8), theirs.reshape(-1).view(torch.uint8)):
        return None
    largest = float((mine.double() - theirs.double()).abs().max())
    scale = float(torch.maximum(mine.double().abs().max(), theirs.double().abs().max()))
    relative = largest / scale if scale else torch.finfo(torch.float64).tiny  # two zeros with other signs
    return Difference(name, largest, relative, f"largest difference {largest:.3g}, {relative:.3g} of its largest value")


def verdict(found: CheckpointDifference, tolerance: float) -> str:
    """The comparison in one line."""
    if found.first is not None:
        counted = f"is the first of {found.num_differing} of the {found.num_tensors} tensors that differ"
        return f"{found.first.name} {counted}: {found.first.told}"
    within = f" by more than {tolerance:g} of its largest value (the most is {found.most_relative:.2g})" if tolerance else ""
    return f"none of the {found.num_tensors} tensors differs{within}"
