"""Writing checkpoints and weights: complete or not there, the one before kept as the shadow."""

import dataclasses
import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmaudio.base.checksums import content_id
from mmaudio.base.files import atomic_path, sync_file, write_json, write_text
from mmaudio.base.tensor_files import DamagedFileError
from mmaudio.checkpoints.load import load_checkpoint
from mmaudio.checkpoints.run_state import CHECKSUMS, RunFiles, RunState, WeightsRecord, checksums_beside, record_path

_SHIFTED = "was_shadow"  # in the record of a checkpoint that `keep` may remove


def save_file(path: Path, content: Any, record: WeightsRecord, shadow: Path | None = None) -> None:
    """Write `content` to `path` and its record beside it; what was there before becomes `shadow`.

    A kill at any moment leaves a complete file under one of the two names, and no file of ours without a record. Records
    come first: after a kill between the two, the older file has the record of the newer one, of another step.
    """
    with atomic_path(path) as temporary:
        with open(temporary, "wb") as file:  # given a path, torch would put the temporary name into the file, and no two were equal
            torch.save(content, file)
        sync_file(temporary)  # now, so that `path` is without a file for a moment only
        if shadow is not None and path.exists():
            _move(path, shadow)
        write_json(record_path(path), dataclasses.asdict(record) | {CHECKSUMS: checksums_beside(temporary, path)})


def _move(path: Path, target: Path, note: Mapping[str, Any] | None = None) -> None:
    """Rename a file with its record, to which a `note` is added."""
    if record_path(path).exists():
        text = record_path(path).read_text(encoding="utf-8")
        write_text(record_path(target), _moved_record(text, target, note or {}))
        os.replace(path, target)
    else:  # a file of the published system: the one before it had a record, which would now be wrong
        os.replace(path, target)
        record_path(target).unlink(missing_ok=True)


def _moved_record(text: str, target: Path, note: Mapping[str, Any]) -> str:
    """A record with a note, and for the moment before its file is moved, with the checksum of the file that it will lie beside."""
    try:
        content = json.loads(text)
    except ValueError:
        return text
    if not isinstance(content, dict):
        return text
    if isinstance(content.get(CHECKSUMS), list) and target.is_file():
        note = {**note, CHECKSUMS: [*content[CHECKSUMS], content_id(target)]}
    return json.dumps({**content, **note}, indent=2) + "\n" if note else text


def save_checkpoint(
    files: RunFiles,
    state: RunState,
    record: WeightsRecord,
    *,
    copy: bool = False,
    keep: int = 2,
    never_remove: Collection[int] = (),
) -> Path:
    """Write a training checkpoint as `_ckpt_last.pth`, or under its step's own name if it is a `copy`.

    Args:
        keep: how many are kept: the last, its shadow, and those before under their steps' names. Older ones are removed, but
            only those that got such a name here.
        never_remove: steps whose checkpoints stay.
    """
    if copy:
        path = files.checkpoint_copy(state.steps_done)
        save_file(path, state.entries(), record)
        return path
    if keep > 2 and files.checkpoint_last.exists():
        _shift_shadow(files, never_remove)
    save_file(files.checkpoint_last, state.entries(), record, files.checkpoint_shadow if keep > 1 else None)
    if keep == 1:
        _remove(files.checkpoint_shadow)
    for path in _shifted(files)[: -(keep - 2) if keep > 2 else None]:
        _remove(path)
    return files.checkpoint_last


def _shift_shadow(files: RunFiles, never_remove: Collection[int]) -> None:
    """Give the shadow a name of its own, since the next one is about to take its place."""
    shadow = files.checkpoint_shadow
    if not shadow.exists():
        return
    try:
        steps_done = load_checkpoint(shadow).steps_done
    except DamagedFileError:
        return
    target = files.checkpoint_copy(steps_done)
    if not target.exists():
        _move(shadow, target, None if steps_done in never_remove else {_SHIFTED: True})


def _shifted(files: RunFiles) -> list[Path]:
    """The checkpoints that were shadows once, oldest first."""
    found = []
    for path in files.checkpoint_copies():
        try:
            if json.loads(record_path(path).read_text(encoding="utf-8")).get(_SHIFTED):
                found.append(path)
        except FileNotFoundError:  # of the published system, and not ours to remove
            continue
    return found


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    record_path(path).unlink(missing_ok=True)


def save_weights(files: RunFiles, weights: dict[str, Tensor], record: WeightsRecord, *, copy: bool = False) -> Path:
    """Write the network's weights as `_last.pth`, or under their step's own name if they are a `copy`."""
    path = files.weights_copy(record.step) if copy else files.weights_last
    save_file(path, weights, record, None if copy else files.weights_shadow)
    return path
