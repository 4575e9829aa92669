"""The settings a run was trained with, from its folder: what is done with a run afterwards goes by those, not by today's defaults."""

from pathlib import Path

from mmaudio.base.config_files import read_plain
from mmaudio.base.errors import Problems, UserError
from mmaudio.base.settings import TrainSettings, settings_from
from mmaudio.runs.names import CONFIG_FILE


def read_settings(run_dir: Path, problems: Problems) -> TrainSettings:
    """The settings a run was trained with. `${…}` in them is text. Raises: UserError if there is no such run, or they cannot be read."""
    saved = run_dir / CONFIG_FILE
    if not saved.is_file():
        raise UserError(f"no run at {run_dir}: train it first (there is no {saved.name})")
    settings: TrainSettings = settings_from(TrainSettings, read_plain(saved), problems)
    return settings
