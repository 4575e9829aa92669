"""The settings a run was made with, from its folder."""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mmaudio.base.errors import Problems, UserError
from mmaudio.runs.signature import CONFIG_FILE
from mmaudio.settings.compose import settings_from
from mmaudio.settings.config_files import read_plain
from mmaudio.settings.schema import BaseSettings, TrainSettings

_NOT_OF_THE_RUN = ("exp_id", "weights", "checkpoint", "debug")
_OF_THE_RUN = tuple(field.name for field in dataclasses.fields(BaseSettings) if field.name not in _NOT_OF_THE_RUN)


def is_run(run_dir: Path) -> bool:
    """Whether a folder holds a run that was trained here."""
    return (run_dir / CONFIG_FILE).is_file()


def completed_by_run(run_dir: Path, asked: Mapping[str, Any], given: Iterable[str]) -> Mapping[str, Any]:
    """The values of an evaluation: of a run, those it was trained with, but for what the command line itself gives.

    Args:
        asked: the composed configuration of the evaluation, as plain values.
        given: dotted names of the settings on the command line.
    """
    if not is_run(run_dir):
        return asked
    saved = read_plain(run_dir / CONFIG_FILE)
    plain = {**asked, **{key: saved[key] for key in _OF_THE_RUN if key in saved}}
    for key in given:
        _put(plain, asked, key.split("."))
    return plain


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


def read_settings(run_dir: Path, problems: Problems) -> TrainSettings:
    """The settings a run was trained with. `${…}` in them is text. Raises: UserError if there is no such run, or they cannot be read."""
    saved = run_dir / CONFIG_FILE
    if not saved.is_file():
        raise UserError(f"no run at {run_dir}: train it first (there is no {saved.name})")
    settings: TrainSettings = settings_from(TrainSettings, read_plain(saved), problems)
    return settings
