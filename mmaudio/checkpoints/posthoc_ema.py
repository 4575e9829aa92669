"""Averages of the weights over a run, of any length, worked out afterwards from stored snapshots.

Karras et al. 2023, "Analyzing and Improving the Training Dynamics of Diffusion Models" (arXiv 2312.02696), section 3 and
appendix C. A profile's length is its relative standard deviation sigma_rel; n counts updates. The files are those of the
published system: `<profile>.<n>.pt`, a flat dictionary of `_extra_state` and `ema_model.<name>`.
"""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmaudio.base.errors import UserError
from mmaudio.base.files import atomic_path

log = logging.getLogger(__name__)
FROZEN = ("latent_mean", "latent_std", "empty_string_feat")  # constants of the data: never averaged
_STATE = "_extra_state"
_PREFIX = "ema_model."
_SNAPSHOT = re.compile(r"(\d+)\.(\d+)\.pt")


def gamma_of(sigma_rel: float) -> float:
    """Exponent of the power function whose relative width is `sigma_rel`: 0.05 → 16.97. The inverse of `sigma_of`."""
    k = sigma_rel**-2
    return float(np.roots([1.0, 7.0, 16.0 - k, 12.0 - k]).real.max())


def sigma_of(gamma: float) -> float:
    """Relative width of the power function with exponent `gamma`: (γ+1) / ((γ+2)² (γ+3)) is its square."""
    return float(np.sqrt((gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3))))


def decay(n: int, gamma: float, update_every: int = 1, *, corrected: bool = True) -> float:
    """How much of the average stays at update n ≥ 1; `corrected` for the `update_every` updates that one stands for."""
    if not corrected:
        return (1 - 1 / (n + 1)) ** (1 + gamma)
    both = (1 - 1 / (n + 1)) ** (1 + gamma) * (1 - 1 / (n + 1 + update_every)) ** (1 + gamma)
    return float(both ** (update_every / 2))


@dataclass(frozen=True)
class Profile:
    """A power-function average: after `n` updates, with exponent `gamma`."""

    gamma: float
    n: int


def overlap(a: Profile, b: Profile) -> float:
    """Inner product of two profiles, both of unit area."""
    exponent = b.gamma if a.n < b.n else -a.gamma
    return float((a.gamma + 1) * (b.gamma + 1) * (a.n / b.n) ** exponent / ((a.gamma + b.gamma + 1) * max(a.n, b.n)))


def solve_weights(stored: Sequence[Profile], wanted: Profile) -> np.ndarray:
    """The combination of stored profiles closest to the wanted one in the least-squares sense, float64."""
    products = np.array([[overlap(a, b) for b in stored] for a in stored])
    return np.linalg.solve(products, np.array([overlap(a, wanted) for a in stored]))


@dataclass(frozen=True)
class Snapshot:
    """One stored average: `<index>.<n>.pt`."""

    path: Path
    index: int
    n: int


def list_snapshots(folder: Path) -> list[Snapshot]:
    """Every snapshot in a folder, by (profile, n)."""
    found = ((path, _SNAPSHOT.fullmatch(path.name)) for path in folder.glob("*.pt"))
    return sorted((Snapshot(path, int(match[1]), int(match[2])) for path, match in found if match), key=lambda s: (s.index, s.n))


def average_entries(average: Mapping[str, Tensor], n: int, initted: bool) -> dict[str, Any]:
    """One average in the published layout."""
    return {_STATE: {"initted": initted, "step": n}} | {f"{_PREFIX}{name}": tensor for name, tensor in average.items()}


def read_average(entries: Mapping[str, Any]) -> tuple[dict[str, Tensor], int, bool]:
    """The tensors, update count and `initted` flag of one average in the published layout."""
    state = entries[_STATE]
    tensors = {name.removeprefix(_PREFIX): value for name, value in entries.items() if name.startswith(_PREFIX)}
    return tensors, int(state["step"]), bool(state["initted"])


def save_snapshot(folder: Path, index: int, average: Mapping[str, Tensor], n: int) -> Path:
    """Write one average after n updates, atomically, from the CPU."""
    path = folder / f"{index}.{n}.pt"
    with atomic_path(path) as temporary:
        torch.save(average_entries({name: tensor.detach().cpu() for name, tensor in average.items()}, n, True), temporary)
    return path


def _open_snapshot(snapshot: Snapshot) -> dict[str, Tensor]:
    try:
        return read_average(torch.load(snapshot.path, map_location="cpu", weights_only=True, mmap=True))[0]
    except (RuntimeError, EOFError, KeyError, ValueError, OSError) as error:
        raise UserError(f"{snapshot.path} is no readable EMA snapshot ({type(error).__name__}); remove it") from None


def weighted_sum(parts: Iterable[tuple[float, Mapping[str, Tensor]]], newest: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Sum of weight · tensors, name by name in float32; what is frozen is copied from `newest`."""
    total = {name: torch.zeros(tensor.shape) for name, tensor in newest.items() if name not in FROZEN}
    for weight, tensors in parts:
        for name, running in total.items():
            running.add_(tensors[name].float(), alpha=weight)
    return {name: total[name] if name in total else tensor.float().clone() for name, tensor in newest.items()}


def synthesize(folder: Path, sigma_rels: Sequence[float], sigma_rel: float, n: int | None = None) -> dict[str, Tensor]:
    """The average of width `sigma_rel` after n updates (None: the newest), from every snapshot of the folder.

    Args:
        sigma_rels: width of profile 0, 1, … of the snapshots.
    Returns: a plain state dict, float32 on the CPU.
    Raises: UserError for an empty folder, a snapshot of an unknown profile, or n past the newest snapshot.
    """
    snapshots = list_snapshots(folder)
    if not snapshots:
        raise UserError(f"no EMA snapshots (<profile>.<step>.pt) in {folder}")
    last = max(snapshot.n for snapshot in snapshots)
    n = last if n is None else n
    if not 0 < n <= last:
        raise UserError(f"EMA step {n} is not within the snapshots of {folder}; the newest is {last}")
    if max(snapshot.index for snapshot in snapshots) >= len(sigma_rels):
        raise UserError(f"{folder} has snapshots of profile {max(s.index for s in snapshots)}, but only {len(sigma_rels)} sigmas are given")
    gammas = [float(np.float32(gamma_of(sigma))) for sigma in sigma_rels]  # the published system rounds them too
    profiles = [Profile(gammas[snapshot.index], snapshot.n) for snapshot in snapshots]
    wanted = Profile(float(np.float32(gamma_of(sigma_rel))), n)
    if wanted in profiles:
        return _open_snapshot(snapshots[profiles.index(wanted)])
    weights = solve_weights(profiles, wanted)
    newest = _open_snapshot(max(snapshots, key=lambda snapshot: snapshot.n))
    return weighted_sum(((float(weight), _open_snapshot(snapshot)) for weight, snapshot in zip(weights, snapshots, strict=True)), newest)


def retire_snapshots(folder: Path, n: int) -> None:
    """Move snapshots past update n into `stale/`: an earlier run, or the lost end of this one, must not be mixed in."""
    stale = [snapshot for snapshot in list_snapshots(folder) if snapshot.n > n]
    for snapshot in stale:
        target = folder / "stale" / snapshot.path.name
        target.parent.mkdir(exist_ok=True)
        snapshot.path.replace(target)
    if stale:
        log.warning("moved %d EMA snapshots past update %d to %s", len(stale), n, folder / "stale")
