"""The id of a run's settings.

Settings that only say where and how often (device, workers, intervals, paths of results) are marked `defines_run=False`
where they are declared and leave it alone. Settings at their default are left out, so that a new setting renames no run.
"""

import dataclasses
import json
import logging
import re
import secrets
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from mmaudio.files.atomic import parse_json, text_hash, write_json, write_text
from mmaudio.files.ownership import MARK_KEY, mark_of, move_aside, read_mark
from mmaudio.settings.data_sources import DataSettings

log = logging.getLogger(__name__)


CONFIG_FILE = "config.yaml"  # the settings of the run, complete
SIGNATURE_DIGITS = 10
SIGNATURE_FILE = "signature.json"
_KIND = "run"
_SIGNATURE = re.compile(rf"[0-9a-f]{{{SIGNATURE_DIGITS}}}")


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
        return dict(parse_json(path.read_text(encoding="utf-8"))["settings"])
    except (ValueError, KeyError, TypeError):
        log.warning("%s cannot be read, so nothing says what the run was begun with", path)
        return None


def record_signature(run_dir: Path, settings: Any) -> None:
    """Keep the signature and what it is made of in the run's folder; warn where the run was begun with other settings."""
    values = _plain(settings)
    known = recorded_settings(run_dir)
    before = values if known is None else known
    for name in sorted(before.keys() | values.keys()):
        if before.get(name) != values.get(name):
            was, now = (json.dumps(each[name]) if name in each else "the default" for each in (before, values))
            log.warning("this run was begun with %s = %s and goes on with %s", name, was, now)
    _write(run_dir, settings, run_id(run_dir))


def claim_folder(run_dir: Path, settings: Any) -> None:
    """Say in a folder that a run is trained there, if nothing says so yet; before anything else is written to it."""
    if not (run_dir / SIGNATURE_FILE).exists():
        _write(run_dir, settings, None)


def _write(run_dir: Path, settings: Any, known_id: str | None) -> None:
    path = run_dir / SIGNATURE_FILE
    if path.exists() and not _is_ours(path):
        move_aside(path, follows_link=True)
    mark = mark_of(_KIND, settings.exp_id or "", id=known_id or secrets.token_hex(8))
    write_json(path, {"signature": signature(settings), "settings": _plain(settings), MARK_KEY: mark})


def _plain(settings: Any) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(json.dumps(defining_values(settings)))  # tuples become lists, as in the file
    return values


def run_id(run_dir: Path) -> str | None:
    """What tells a run from another one of the same name, in another folder; None where none is recorded."""
    found = (read_mark(run_dir / SIGNATURE_FILE) or {}).get("id")
    return found if isinstance(found, str) else None


def run_in(run_dir: Path) -> str | None:
    """The exp_id of the run that a folder holds, as what training wrote there proves; None where nothing does.

    A folder of the version before has no mark, but a signature, and settings that name the run.
    """
    mark = read_mark(run_dir / SIGNATURE_FILE)
    if mark is not None:
        return str(mark.get("of")) if mark.get("kind") == _KIND else None
    return saved_value(run_dir, "exp_id") if _is_ours(run_dir / SIGNATURE_FILE) else None


def _is_ours(path: Path) -> bool:
    """Whether a file holds what this program writes to it, with a mark or, as the version before, without."""
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    is_whole = isinstance(content, dict) and isinstance(content.get("settings"), dict)
    return is_whole and bool(_SIGNATURE.fullmatch(str(content.get("signature"))))


def saved_value(run_dir: Path, name: str) -> str | None:
    """The value of a setting, by its dotted name, that a run was last begun with, as text; None where its settings do not say."""
    try:
        found = yaml.load((run_dir / CONFIG_FILE).read_text(encoding="utf-8"), Loader=yaml.BaseLoader)  # in which all is text
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return None
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found if isinstance(found, str) else None


def write_config(run_dir: Path, exp_id: str, text: str) -> None:
    """Keep the settings of a run, as YAML, in its folder. A file there that does not name the run is moved aside, and said."""
    path = run_dir / CONFIG_FILE
    if path.exists() and saved_value(run_dir, "exp_id") != exp_id:
        move_aside(path, follows_link=True)
    write_text(path, text)
