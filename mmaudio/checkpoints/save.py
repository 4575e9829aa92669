"""Writing checkpoints and weights: complete or not there, the one before kept as the shadow."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmaudio.base.files import atomic_path, write_json
from mmaudio.checkpoints.run_state import RunFiles, RunState, WeightsRecord, record_path


def save_file(path: Path, content: Any, record: WeightsRecord, shadow: Path | None = None) -> None:
    """Write `content` to `path` and its record beside it, atomically; what was there before becomes `shadow`.

    A kill at any moment leaves a complete file under one of the two names.
    """
    with atomic_path(path) as temporary:
        torch.save(content, temporary)
        if shadow is not None and path.exists():
            for old, new in ((record_path(path), record_path(shadow)), (path, shadow)):
                if old.exists():
                    os.replace(old, new)
    write_json(record_path(path), dataclasses.asdict(record))


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
