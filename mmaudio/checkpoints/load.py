"""Reading checkpoints and weights, ours and the published system's, whole or not at all."""

import dataclasses
import functools
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from mmaudio.base.errors import UserError
from mmaudio.checkpoints.run_files import CHECKSUMS, FORMAT_VERSION, RunFiles, RunState, WeightsRecord, record_beside, record_from_strings
from mmaudio.files.atomic import parse_json
from mmaudio.files.checksums import SAFETENSORS, DamagedFileError, content_id, damaged
from mmaudio.files.tensor_files import all_finite, first_not_finite, named_tensors, read_tensor_file

log = logging.getLogger(__name__)
_ENTRIES = ("it", "weights", "optimizer", "scheduler", "ema")


@dataclasses.dataclass(frozen=True)
class Newest:
    """The checkpoint a run goes on from, and one sentence for each file that was skipped on the way to it."""

    path: Path
    state: RunState
    skipped: tuple[str, ...]


def _record_within(path: Path) -> dict[str, Any] | None:
    """The record in a safetensors file's own header, as JSON values; None where it has none. Raises: DamagedFileError, OSError."""
    if path.suffix != SAFETENSORS or not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            strings = file.metadata() or {}
        return record_from_strings(strings) if "format_version" in strings else None
    except (SafetensorError, ValueError):
        raise damaged(path) from None


def read_record(path: Path) -> WeightsRecord | None:
    """The record in or beside a weights file; None where there is none (files of the published system).

    Raises: UserError for a record that cannot be read or is of another format version.
    """
    place = path
    try:
        content = _record_within(path)
        if content is None:
            place = record_beside(path)
            content = parse_json(place.read_text(encoding="utf-8"))
        if content["format_version"] == FORMAT_VERSION:
            return WeightsRecord.from_plain(content)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{place} cannot be read: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError):
        raise DamagedFileError(f"{place} is no readable record of {path.name}; copy it anew, or remove it") from None
    raise UserError(f"{place} has format version {content['format_version']}; this mmaudio reads {FORMAT_VERSION}")


def foreign_record(path: Path) -> str | None:
    """What to say if the record beside a file was written for another one; None if it was not, or does not say."""
    place, before = record_beside(path), None
    try:
        while (text := place.read_text(encoding="utf-8")) != before:  # again, if a training has replaced both meanwhile
            content, before = parse_json(text), text
            known = content.get(CHECKSUMS) if isinstance(content, dict) else None
            if not isinstance(known, list) or not path.is_file() or content_id(path) in known:
                return None
    except (OSError, ValueError):  # there is none, or none that can be read, as `read_record` says
        return None
    return (
        f"{place} was not written for the {path.name} that is there now: one of the two was replaced; put the right one back, or to use"
        f' the file as it is, remove that record (or its "{CHECKSUMS}", if all else in it is true)'
    )


@functools.cache
def _warn_once(sentence: str) -> None:
    log.warning("%s", sentence)


def load_checkpoint(path: Path) -> RunState:
    """A training checkpoint. Its step count is the scheduler's, which alone is right in every published file.

    Raises: DamagedFileError if the file is torn or no training checkpoint, UserError if it is missing, unreadable or of another
        format version.
    """
    content = read_tensor_file(path)
    missing = [name for name in _ENTRIES if not isinstance(content, Mapping) or name not in content]
    if missing:
        raise DamagedFileError(f"{path} is no training checkpoint: it has no {', '.join(missing)}; for weights alone use weights={path}")
    read_record(path)  # checks the format version
    if (sentence := foreign_record(path)) is not None:  # a checkpoint says itself what training needs
        _warn_once(sentence)
    steps_done = int((content["scheduler"] or {}).get("last_epoch", content["it"]))
    return RunState(
        steps_done, dict(content["weights"]), content["optimizer"], content["scheduler"], content["ema"], content.get("extra") or {}
    )


def load_weights(path: Path) -> dict[str, Tensor]:
    """The network's tensors from a weights file, or from a training checkpoint (its current weights).

    Raises: UserError if the file is missing, torn, holds no tensors or numbers that are not finite, or if the record beside it was
        written for another file.
    """
    content = read_tensor_file(path)
    if isinstance(content, Mapping) and isinstance(content.get("weights"), Mapping):
        content = content["weights"]
    weights = named_tensors(content, path)
    if name := first_not_finite(weights):
        raise UserError(f"{path} holds numbers that are not finite, the first in {name}; take the weights of an earlier step")
    if (sentence := foreign_record(path)) is not None:
        raise UserError(sentence)
    return weights


def _tensors(nest: Any) -> Iterator[Tensor]:
    if isinstance(nest, Tensor):
        yield nest
    elif isinstance(nest, Mapping):
        for part in nest.values():
            yield from _tensors(part)


def _spoilt_part(state: RunState) -> str | None:
    """What of a checkpoint holds numbers that are not finite; reads all of it."""
    parts = {"weights": state.weights, "optimizer moments": state.optimizer.get("state"), "averages": state.ema}
    for name, part in parts.items():
        if not all(all_finite(tensor) for tensor in _tensors(part) if tensor.is_floating_point()):
            return name
    return None


def newest_checkpoint(files: RunFiles) -> Newest | None:
    """The checkpoint of this run with most steps done; None where there is none at all.

    One that is torn or not finite gives way to the next.
    Raises: UserError where there are some and none can be used (starting anew would write over them), and for one that is
        not damaged but cannot be read, or not by this version.
    """
    readable: list[tuple[Path, RunState]] = []
    skipped: list[str] = []
    for path in files.checkpoints():
        try:
            readable.append((path, load_checkpoint(path)))
        except DamagedFileError as error:
            skipped.append(str(error))
    for path, state in sorted(readable, key=lambda found: -found[1].steps_done):
        spoilt = _spoilt_part(state)
        if spoilt is None:
            return Newest(path, state, tuple(skipped))
        skipped.append(f"{path} holds {spoilt} that are not finite")
    if skipped:
        found = "; ".join(skipped)
        raise UserError(f"no checkpoint of this run can be used ({found}); move them away to start anew, or choose another exp_id")
    return None
