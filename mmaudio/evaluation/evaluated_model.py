"""What is evaluated: the weights of a run with its own settings, or a published model; and how it samples."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mmaudio.base.errors import UserError, nearest
from mmaudio.batches import Batch
from mmaudio.checkpoints.load import read_record
from mmaudio.checkpoints.run_files import RunFiles
from mmaudio.features.backend_plan import FOR_DECODING, FOR_GENERATION, FOR_PROMPTS, backend_keywords_of_run
from mmaudio.files.file_names import check_plain_name
from mmaudio.generate.model import Model, ModelChoice, load_model
from mmaudio.generate.sampler import ConditionBatch, SampleSettings
from mmaudio.runs.saved_settings import is_run
from mmaudio.runs.signature import CONFIG_FILE
from mmaudio.settings.config_files import read_plain
from mmaudio.settings.schema import BaseSettings, EvalSettings
from mmaudio.weights import VARIANTS, checksum, locate


@dataclass(frozen=True)
class EvaluatedModel:
    """The weights that are evaluated, and the settings that say what they are."""

    weights: Path
    settings: BaseSettings

    def load(self, device: torch.device, *, from_store: bool, with_video: bool) -> Model:
        """Read the weights and the backend, as far as it is needed. Raises: UserError, as `load_model`."""
        needs = FOR_DECODING if from_store else FOR_GENERATION if with_video else FOR_PROMPTS
        settings = self.settings
        published = read_record(self.weights) is None  # then nothing beside the file says what it is
        variant, backend, duration_s = (settings.model, settings.backend, settings.duration_s) if published else (None, None, None)
        return load_model(ModelChoice(self.weights, variant, backend, duration_s, backend_keywords_of_run(settings)), device, needs)

    def facts(self, model: Model, how: SampleSettings) -> dict[str, Any]:
        """What its samples were made by, ready for JSON."""
        record = read_record(self.weights)
        known = {} if record is None else {"exp_id": record.exp_id, "step": record.step, "variant": record.variant}
        spec = model.backend.spec
        made = {"weights": str(self.weights), "weights_hash": checksum(self.weights), "variant": self.settings.model, **known}
        return {**made, "backend": model.backend.name, "mode": spec.mode, "duration_s": spec.duration_s, **dataclasses.asdict(how)}


def weights_of(settings: EvalSettings, run_dir: Path) -> Path:
    """The weights asked for; else a run's averaged ones; else those of the published model.

    Raises: UserError where they are not there.
    """
    if settings.weights:
        if not Path(settings.weights).is_file():
            raise UserError(f"weights is {settings.weights}, which is not a file")
        return Path(settings.weights)
    if is_run(run_dir):
        files = RunFiles(run_dir, name_of_run(run_dir))
        if files.ema_final.is_file():
            return files.ema_final
        also = f"weights={files.weights_last}" if files.weights_last.is_file() else "weights=FILE"
        raise UserError(f"no averaged weights at {files.ema_final}, which training writes at its end; give {also}")
    if settings.model not in VARIANTS:
        hint = nearest(settings.model, VARIANTS)
        raise UserError(
            f"no run at {run_dir}, and model {settings.model!r} is no published one{hint} ({', '.join(VARIANTS)});"
            " train the run first, or give weights=FILE"
        )
    return locate(settings.model)


def name_of_run(run_dir: Path) -> str:
    """What a run was called when it was trained, by which its files are called; its folder may have been renamed since.

    Where there is no run, but a folder for results of a published model, that folder's name.
    """
    if not is_run(run_dir):
        return run_dir.name
    name = str(read_plain(run_dir / CONFIG_FILE).get("exp_id") or run_dir.name)
    check_plain_name(f"exp_id in {run_dir / CONFIG_FILE}", name)
    return name


# ---- How a run samples, and from what


def sampling_of(settings: BaseSettings, *, amp: bool = False) -> SampleSettings:
    """How a run samples, in bf16 if `amp`."""
    sampling = settings.sampling
    return SampleSettings(sampling.num_steps, settings.cfg_strength, sampling.method, sampling.min_sigma, settings.seed, amp)


def conditions_of(batch: Batch) -> ConditionBatch:
    """What stored rows are sampled from."""
    clip, sync = batch.one_a_sample(batch.clip_features), batch.one_a_sample(batch.sync_features)
    return ConditionBatch(batch.ids, batch.text_features, clip, sync, None, batch.video_exist)
