"""The settings a run was trained with, from its folder: what is done with a run afterwards goes by those, not by today's defaults."""

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from mmaudio.base.errors import Problems, UserError
from mmaudio.base.settings import TrainSettings, plain_values, settings_from
from mmaudio.runs.names import CONFIG_FILE


def read_settings(run_dir: Path, problems: Problems) -> TrainSettings:
    """The settings a run was trained with. Raises: UserError if there is no such run."""
    saved = run_dir / CONFIG_FILE
    if not saved.is_file():
        raise UserError(f"no run at {run_dir}: train it first (there is no {saved.name})")
    saved_config = OmegaConf.load(saved)
    assert isinstance(saved_config, DictConfig)
    settings: TrainSettings = settings_from(TrainSettings, plain_values(saved_config), problems)
    return settings
