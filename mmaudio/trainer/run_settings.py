"""What the settings of a run say of its network, its averages and its record, before any of them is there."""

from pathlib import Path

from mmaudio.base.settings import BaseSettings, TrainSettings
from mmaudio.base.specs import AudioSpec
from mmaudio.checkpoints.run_state import RunFiles, WeightsRecord
from mmaudio.checkpoints.snapshot_record import SnapshotOwner
from mmaudio.checkpoints.snapshots import CONSTANTS
from mmaudio.network import find_variant
from mmaudio.runs.signature import run_id


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
    is_at_home = ema_folder(settings, files).resolve() == files.ema_folder.resolve()
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
