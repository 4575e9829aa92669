"""What settings say of a run's network, averages and record, of its arithmetic, and of what is frozen."""

import logging
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from torch import nn

from mmaudio.base.errors import UserError, nearest
from mmaudio.base.specs import AudioSpec
from mmaudio.checkpoints.ema_snapshots import CONSTANTS, SnapshotOwner
from mmaudio.checkpoints.run_files import RunFiles, WeightsRecord
from mmaudio.distributed.devices import allow_tf32, has_bf16_units
from mmaudio.files.ownership import at_end_of_links
from mmaudio.network import build_network, find_variant
from mmaudio.runs.signature import run_id
from mmaudio.settings.schema import BaseSettings, TrainSettings

log = logging.getLogger(__name__)


# ---- The network of a run, its averages and its record, before any of them is there


def model_spec(settings: BaseSettings) -> AudioSpec:
    """Lengths and channels of the model's clips."""
    return find_variant(settings.model).audio(settings.duration_s)


def final_cond(settings: TrainSettings) -> str:
    """What modulates the final layer: as asked, or as the variant has it."""
    return settings.final_cond or find_variant(settings.model).final_cond


def ema_folder(settings: TrainSettings, files: RunFiles) -> Path:
    """Where snapshots of the averages go."""
    return Path(settings.ema.checkpoint_folder) if settings.ema.checkpoint_folder else files.ema_folder


def snapshot_owner(settings: TrainSettings, files: RunFiles) -> SnapshotOwner:
    """The run, as the owner of its snapshots."""
    is_at_home = at_end_of_links(ema_folder(settings, files)) == at_end_of_links(files.ema_folder)
    return SnapshotOwner(settings.name(), run_id(files.folder), is_at_home)


def ema_constants(settings: TrainSettings) -> tuple[str, ...]:
    """Patterns of the tensors that do not change while training, so that every average of them is themselves."""
    return (*CONSTANTS, *settings.freeze)


def weights_record(settings: TrainSettings, steps_done: int) -> WeightsRecord:
    """What is kept beside weights of this run after `steps_done` iterations."""
    return WeightsRecord(
        variant=settings.model,
        mode=model_spec(settings).mode,
        duration_s=settings.duration_s,
        backend=settings.backend,
        step=steps_done,
        exp_id=settings.name(),
        final_cond=final_cond(settings),
        dropped=tuple(sorted(settings.drop_conditions)),
        freeze=settings.freeze,
    )


# ---- What a run computes in, and whether it compiles: as asked, or where the device gains by it


def uses_amp(settings: BaseSettings, device: torch.device) -> bool:
    """Whether to run in bf16: as asked, or where the device has units for it."""
    has_units = has_bf16_units(device)
    if settings.amp is True and not has_units:
        log.warning("amp=True: %s has no bf16 units, so this is slower than amp=False", device)
    return has_units if settings.amp == "auto" else settings.amp is True


def compute_dtype(*, amp: bool) -> torch.dtype:
    """What matrix products of training are in."""
    return torch.bfloat16 if amp else torch.float32


def uses_compile(settings: BaseSettings, device: torch.device) -> bool:
    """Whether to compile: as asked, or on CUDA."""
    if settings.compile is True and device.type != "cuda":
        log.warning("compile=True: on %s compiling takes longer than it saves in a short run", device)
    return device.type == "cuda" if settings.compile == "auto" else settings.compile is True


def set_backend_flags(settings: BaseSettings) -> None:
    """Process-wide choices of arithmetic: TF32 for what is not in bf16, and cuDNN's search for the fastest kernel."""
    allow_tf32()
    torch.backends.cudnn.benchmark = settings.cudnn_benchmark


# ---- What is frozen


def freeze_(network: nn.Module, patterns: Sequence[str]) -> None:
    """Take the parameters that a pattern matches out of training: no gradient, so no place in the optimizer and no decay.

    Averages hold them as they hold every tensor, and being constant they stay bitwise what they are.
    """
    parameters = dict(network.named_parameters())
    for name in matching(trainable_shapes(network), patterns):
        parameters[name].requires_grad_(False)


def check_patterns(names: Sequence[str], patterns: Sequence[str]) -> None:
    """Raises: UserError for every pattern that matches no trained parameter, and for patterns that match all of them."""
    parents = {".".join(parts[:depth]) + ".*" for parts in (name.split(".") for name in names) for depth in range(1, len(parts))}
    idle = [pattern for pattern in patterns if not matching(names, [pattern])]
    sentences = [f"freeze names {pattern!r}, which no trained parameter matches{nearest(pattern, [*parents, *names])}" for pattern in idle]
    if len(matching(names, patterns)) == len(names):
        sentences.append(f"freeze is {list(patterns)}, which leaves nothing to train; want patterns that spare some parameters")
    if sentences:
        raise UserError(*sentences)


def matching(names: Iterable[str], patterns: Sequence[str]) -> set[str]:
    """The names that one of the patterns matches."""
    return {name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)}


def model_shapes(model: str) -> dict[str, torch.Size]:
    """The `trainable_shapes` of a named model of which nothing is frozen; its tensors take no memory."""
    with torch.device("meta"):
        return trainable_shapes(build_network(model))


def trainable_shapes(network: nn.Module) -> dict[str, torch.Size]:
    """Name and shape of every parameter that takes a gradient, in the optimizer's order."""
    return {name: parameter.shape for name, parameter in network.named_parameters() if parameter.requires_grad}
