"""Reading checkpoints and weights, ours and the published system's, whole or not at all."""

import dataclasses
import json
import logging
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmaudio.base.errors import UserError
from mmaudio.checkpoints.run_state import FORMAT_VERSION, RunFiles, RunState, WeightsRecord, record_path

log = logging.getLogger(__name__)
_ENTRIES = ("it", "weights", "optimizer", "scheduler", "ema")


def _read(path: Path) -> Any:
    """Read a torch file lazily, tensors on the CPU. Raises: UserError if it is missing, torn or holds more than data."""
    if not path.is_file():
        raise UserError(f"no file at {path}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, EOFError, ValueError, OSError, pickle.UnpicklingError) as error:
        raise UserError(f"{path} is no readable weights file ({str(error).strip().splitlines()[0]}); copy or download it anew") from None


def read_record(path: Path) -> WeightsRecord | None:
    """The record beside a weights file; None where there is none (files of the published system).

    Raises: UserError for a record of another format version.
    """
    try:
        content = json.loads(record_path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    if content.get("format_version") != FORMAT_VERSION:
        raise UserError(f"{record_path(path)} has format version {content.get('format_version')}; this mmaudio reads {FORMAT_VERSION}")
    return WeightsRecord(**{field.name: content[field.name] for field in dataclasses.fields(WeightsRecord)})


def load_checkpoint(path: Path) -> RunState:
    """A training checkpoint. Its step count is the scheduler's, which alone is right in every published file.

    Raises: UserError if the file is missing, torn, or no training checkpoint.
    """
    content = _read(path)
    missing = [name for name in _ENTRIES if not isinstance(content, Mapping) or name not in content]
    if missing:
        raise UserError(f"{path} is no training checkpoint: it has no {', '.join(missing)}; for weights alone use weights={path}")
    read_record(path)  # checks the format version
    steps_done = int((content["scheduler"] or {}).get("last_epoch", content["it"]))
    return RunState(steps_done, dict(content["weights"]), content["optimizer"], content["scheduler"], content["ema"])


def load_weights(path: Path) -> dict[str, Tensor]:
    """The network's tensors from a weights file, or from a training checkpoint (its current weights).

    Raises: UserError if the file is missing, torn, or holds no tensors.
    """
    content = _read(path)
    if isinstance(content, Mapping) and isinstance(content.get("weights"), Mapping):
        content = content["weights"]
    if not isinstance(content, Mapping) or not content or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"{path} holds no weights: want a file of named tensors")
    return dict(content)


def _is_finite(state: RunState) -> bool:
    return all(bool(torch.isfinite(tensor).all()) for tensor in state.weights.values() if tensor.is_floating_point())


def newest_checkpoint(files: RunFiles) -> tuple[Path, RunState] | None:
    """The checkpoint of this run with most steps done. One that is torn or not finite is skipped with a warning."""
    readable: list[tuple[Path, RunState]] = []
    for path in files.checkpoints():
        try:
            readable.append((path, load_checkpoint(path)))
        except UserError as error:
            log.warning("skipped %s: %s", path.name, error)
    for path, state in sorted(readable, key=lambda found: -found[1].steps_done):
        if _is_finite(state):
            return path, state
        log.warning("skipped %s: its weights are not finite", path.name)
    return None
