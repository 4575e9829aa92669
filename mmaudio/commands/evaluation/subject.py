"""What is evaluated: a run of this system by its own saved settings, or a published model."""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mmaudio.base.config_files import read_plain
from mmaudio.base.errors import Problems, UserError, nearest
from mmaudio.base.file_names import check_plain_name
from mmaudio.base.settings import BaseSettings, EvalSettings, settings_from
from mmaudio.checkpoints.load import read_record
from mmaudio.checkpoints.run_state import RunFiles
from mmaudio.commands.evaluation.by_settings import backend_keywords
from mmaudio.features.plan import FOR_DECODING, FOR_GENERATION, FOR_PROMPTS
from mmaudio.generate.model import Model, ModelChoice, load_model
from mmaudio.generate.sampler import SampleSettings
from mmaudio.runs.names import CONFIG_FILE
from mmaudio.weights import VARIANTS, checksum, locate

_NOT_OF_THE_RUN = ("exp_id", "weights", "checkpoint", "debug")
_OF_THE_RUN = tuple(field.name for field in dataclasses.fields(BaseSettings) if field.name not in _NOT_OF_THE_RUN)


def is_run(run_dir: Path) -> bool:
    """Whether a folder holds a run that was trained here."""
    return (run_dir / CONFIG_FILE).is_file()


def settings_of_run(run_dir: Path, asked: Mapping[str, Any], given: Iterable[str], problems: Problems) -> EvalSettings:
    """The settings of an evaluation of a run: those it was trained with, but for what the command line itself gives.

    Args:
        asked: the composed configuration of the evaluation, as plain values.
        given: dotted names of the settings on the command line.
    """
    saved = read_plain(run_dir / CONFIG_FILE)
    plain = {**asked, **{key: saved[key] for key in _OF_THE_RUN if key in saved}}
    for key in given:
        _put(plain, asked, key.split("."))
    settings: EvalSettings = settings_from(EvalSettings, plain, problems)
    return settings


def _put(plain: dict[str, Any], asked: Mapping[str, Any], path: list[str]) -> None:
    """Bring the value at a dotted name over, the groups on the way copied."""
    key, *rest = path
    if key not in asked:
        return
    if not rest or not isinstance(asked[key], Mapping) or not isinstance(plain.get(key), Mapping):
        plain[key] = asked[key]
        return
    plain[key] = dict(plain[key])
    _put(plain[key], asked[key], rest)


@dataclass(frozen=True)
class Subject:
    """The weights that are evaluated, and the settings that say what they are."""

    weights: Path
    settings: BaseSettings

    def load(self, device: torch.device, *, from_store: bool, with_video: bool) -> Model:
        """Read the weights and the backend, as far as it is needed. Raises: UserError, as `load_model`."""
        needs = FOR_DECODING if from_store else FOR_GENERATION if with_video else FOR_PROMPTS
        settings = self.settings
        published = read_record(self.weights) is None  # then nothing beside the file says what it is
        variant, backend, duration_s = (settings.model, settings.backend, settings.duration_s) if published else (None, None, None)
        return load_model(ModelChoice(self.weights, variant, backend, duration_s, backend_keywords(settings)), device, needs)

    def facts(self, model: Model, how: SampleSettings) -> dict[str, Any]:
        """What its samples were made by, ready for JSON."""
        record = read_record(self.weights)
        known = {} if record is None else {"exp_id": record.exp_id, "step": record.step, "variant": record.variant}
        spec = model.backend.spec
        made = {"weights": str(self.weights), "weights_hash": checksum(self.weights), "variant": self.settings.model, **known}
        return {**made, "backend": model.backend.name, "mode": spec.mode, "duration_s": spec.duration_s, **dataclasses.asdict(how)}


def _name_of(run_dir: Path) -> str:
    """What a run was called when it was trained, by which its files are called; its folder may have been renamed since."""
    name = str(read_plain(run_dir / CONFIG_FILE).get("exp_id") or run_dir.name)
    check_plain_name(f"exp_id in {run_dir / CONFIG_FILE}", name)
    return name


def weights_of(settings: EvalSettings, run_dir: Path) -> Path:
    """The weights asked for; else a run's averaged ones; else those of the published model.

    Raises: UserError where they are not there.
    """
    if settings.weights:
        if not Path(settings.weights).is_file():
            raise UserError(f"weights is {settings.weights}, which is not a file")
        return Path(settings.weights)
    if is_run(run_dir):
        files = RunFiles(run_dir, _name_of(run_dir))
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
