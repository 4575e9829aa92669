"""Writing checkpoints and weights: complete or not there, the one before kept as the shadow."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmaudio.base.files import atomic_path, write_json, write_text
from mmaudio.checkpoints.run_state import RunFiles, RunState, WeightsRecord, record_path


def save_file(path: Path, content: Any, record: WeightsRecord, shadow: Path | None = None) -> None:
    """Write `content` to `path` and its record beside it; what was there before becomes `shadow`.

    A kill at any moment leaves a complete file under one of the two names, and no file of ours without a record. Records
    come first: after a kill between the two, the older file has the record of the newer one, of another step.
    """
    with atomic_path(path) as temporary:
        torch.save(content, temporary)
        if shadow is not None and path.exists():
            _move_to_shadow(path, shadow)
        write_json(record_path(path), dataclasses.asdict(record))


def _move_to_shadow(path: Path, shadow: Path) -> None:
    if record_path(path).exists():
        write_text(record_path(shadow), record_path(path).read_text(encoding="utf-8"))
        os.replace(path, shadow)
    else:  # a file of the published system: the shadow before it had a record, which would now be wrong
        os.replace(path, shadow)
        record_path(shadow).unlink(missing_ok=True)


def save_checkpoint(files: RunFiles, state: RunState, record: WeightsRecord, *, copy: bool = False) -> Path:
    """Write a training checkpoint as `_ckpt_last.pth`, or under its step's own name if it is a `copy`."""
    path = files.checkpoint_copy(state.steps_done) if copy else files.checkpoint_last
    save_file(path, state.entries(), record, None if copy else files.checkpoint_shadow)
    return path


def save_weights(files: RunFiles, weights: dict[str, Tensor], record: WeightsRecord, *, copy: bool = False) -> Path:
    """Write the network's weights as `_last.pth`, or under their step's own name if they are a `copy`."""
    path = files.weights_copy(record.step) if copy else files.weights_last
    save_file(path, weights, record, None if copy else files.weights_shadow)
    return path
