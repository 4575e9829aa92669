"""A run's signature: a short hash of the settings that define it, its name where the user gives none.

Settings that only say where and how often (device, workers, intervals, paths of results) are marked `defines_run=False`
where they are declared and leave it alone. Settings at their default are left out, so that a new setting renames no run.
"""

import dataclasses
import json
import logging
from pathlib import Path
from typing import Any

from mmaudio.base.files import text_hash, write_json
from mmaudio.base.sources import DataSettings

log = logging.getLogger(__name__)
SIGNATURE_DIGITS = 10
SIGNATURE_FILE = "signature.json"


def defining_values(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted name → value of every setting that defines the run and is not at its default, nested groups opened up."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(settings):
        value, name = getattr(settings, field.name), f"{prefix}{field.name}"
        if not field.metadata.get("defines_run", True):
            continue
        if isinstance(value, DataSettings):
            values |= _data_values(value, f"{name}.")
        elif dataclasses.is_dataclass(value):
            values |= defining_values(value, f"{name}.")
        elif value != (field.default if field.default_factory is dataclasses.MISSING else field.default_factory()):
            values[name] = value
    return values


def _data_values(data: DataSettings, prefix: str) -> dict[str, Any]:
    """The lists that decide what is learned, and the sources they name; sources nobody uses say nothing about a run."""
    values: dict[str, Any] = {f"{prefix}train": data.train, f"{prefix}val": data.val}
    for name, source in data.chosen("train", "val").items():
        values |= defining_values(source, f"{prefix}{name}.")
    return values


def signature(settings: Any) -> str:
    """The hash of `defining_values`: the same for the same run on any machine, whatever its results are called."""
    return text_hash([f"{name}={value!r}" for name, value in sorted(defining_values(settings).items())])[:SIGNATURE_DIGITS]


def recorded_settings(run_dir: Path) -> dict[str, Any] | None:
    """Dotted name → value of what the run in this folder was last begun with, defaults left out; None where nothing says so."""
    path = run_dir / SIGNATURE_FILE
    if not path.is_file():
        return None
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))["settings"])
    except (ValueError, KeyError, TypeError):
        log.warning("%s cannot be read, so nothing says what the run was begun with", path)
        return None


def record_signature(run_dir: Path, settings: Any) -> None:
    """Keep the signature and what it is made of in the run's folder; warn where the run was begun with other settings."""
    values = json.loads(json.dumps(defining_values(settings)))  # tuples become lists, as in the file
    known = recorded_settings(run_dir)
    before = values if known is None else known
    for name in sorted(before.keys() | values.keys()):
        if before.get(name) != values.get(name):
            was, now = (json.dumps(each[name]) if name in each else "the default" for each in (before, values))
            log.warning("this run was begun with %s = %s and goes on with %s", name, was, now)
    write_json(run_dir / SIGNATURE_FILE, {"signature": signature(settings), "settings": values})
