"""Configuration files: read as plain values, and checked before Hydra composes them.

A data mix or a config folder may come from somebody else. Hydra runs what its own keys name (callbacks, log handlers), and resolves
`${oc.env:…}` and the like wherever they stand. So a file may set this program's settings alone. Hydra's own are for the command line.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from mmaudio.base.errors import Problems, UserError

SETTING_GROUPS = ("data", "eval_data", "solver")  # each file of these sets the settings of its group
HYDRA = "hydra"
# What the file that a command starts from may set of Hydra's own: where results go, and the text of --help
_HYDRA_KEYS = ("run", "output_subdir", "help", "verbose")
_NAMES_CODE = "solver"  # what is trained; chosen by the command line or the file it starts from
_CONFIGURES_HYDRA = "{path} configures Hydra itself, which may run code; remove it, and give what is needed of it on the command line"
_HEADER = re.compile(r"\s*#\s*@\s*package\b(.*)")
_PLAIN_NAME = re.compile(r"[\w+-][\w+.-]*")
_REFERENCE = re.compile(r"\$\{\.*[A-Za-z_][\w-]*(?:\.[\w-]+|\[[\w-]+\])*\}")


def read_plain(path: Path) -> dict[str, Any]:
    """The values of a YAML file, as it has them: `${…}` is text and refers to nothing. Raises: UserError if it is none."""
    return _plain(_text(path), path)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    except ValueError:
        raise UserError(f"{path} is no text in UTF-8; want a YAML file of settings") from None


def _plain(text: str, path: Path) -> dict[str, Any]:
    try:
        config = OmegaConf.create(text)
        if isinstance(config, DictConfig):
            values = OmegaConf.to_container(config, resolve=False)
            if isinstance(values, dict):
                return {str(key): value for key, value in values.items()}
    except (OmegaConfBaseException, YAMLError, ValueError, RecursionError) as error:
        first_line = (str(error).strip() or "it holds itself").split("\n")[0]
        raise UserError(f"{path} cannot be read as settings: {first_line}") from None
    raise UserError(f"{path} holds no settings; want a YAML file of key: value")


@dataclass(frozen=True)
class _ConfigFile:
    """A file of a group, `data/mine.yaml` of group `data`, or one without a group. `packages`: where it asks Hydra to put its keys."""

    path: Path
    group: str
    is_primary: bool
    packages: tuple[str, ...]
    values: Mapping[str, Any]

    @property
    def is_root(self) -> bool:
        return self.is_primary or not self.group

    @property
    def sets_its_group(self) -> bool:
        return not self.is_root and self.group.split("/")[0] in SETTING_GROUPS


def check_config_files(folders: Sequence[Path], primary: str, choices: Iterable[tuple[str, str]]) -> None:
    """Refuse configuration files that set anything but this program's settings, before Hydra reads one of them.

    Args:
        folders: where Hydra looks for files, in its order.
        primary: the file that the command starts from (`--config-name`).
        choices: what the command line chooses, as (group, file): ("data", "mine").
    Raises: UserError with a sentence for each key that is refused, naming file and key.
    """
    problems = Problems()
    for folder in folders:
        for found in sorted([*folder.glob(f"{HYDRA}/*.yaml"), *folder.glob(f"{HYDRA}/*/*.yaml")]):
            problems.add(_CONFIGURES_HYDRA.format(path=found))  # some are used without being named
    group, _, name = primary.rpartition("/")
    waiting, seen = [(group, name, True), *((*choice, False) for choice in choices)], set[Path]()
    while waiting:
        group, name, is_primary = waiting.pop(0)
        path = _find(folders, group, name)
        if path is None or path in seen:
            continue
        seen.add(path)
        if group.split("/")[0] == HYDRA:
            problems.add(_CONFIGURES_HYDRA.format(path=path))
        elif (file := problems.check(partial(_read, path, group, is_primary))) is not None:
            _check(file, problems)
            waiting += [(*chosen, False) for chosen in _defaults(file, folders, problems)]
    problems.raise_any()


def _find(folders: Iterable[Path], group: str, name: str) -> Path | None:
    """The file that Hydra takes: of the first folder that has one."""
    places = (folder / group / f"{name.removesuffix('.yaml')}.yaml" for folder in folders)
    return next((place for place in places if place.is_file()), None)


def _read(path: Path, group: str, is_primary: bool) -> _ConfigFile:
    text = _text(path)
    headers = [match[1].strip() for line in text.splitlines() if (match := _HEADER.match(line))]  # wider than where Hydra looks
    return _ConfigFile(path, group, is_primary, tuple(headers), _plain(text, path))


def _check(file: _ConfigFile, problems: Problems) -> None:
    _check_package(file, problems)
    if file.is_root:
        for key in _keys_of_hydra(file):
            problems.add(f"{file.path} sets {key}, which is Hydra's own; remove it, or give it on the command line: {key}=VALUE")
        return
    refused = (HYDRA,) if file.group == _NAMES_CODE else (HYDRA, _NAMES_CODE)
    for key in refused:
        if key in file.values:
            problems.add(f"{file.path} sets {key}; a file of {file.group} sets {_its_settings(file)} alone: remove {key}")
    for key, value in _texts(file.values):
        if "${" in _REFERENCE.sub(lambda match: match[0] if _leads_out(match[0]) else "", value):
            problems.add(
                f"{file.path} sets {key} to {value[:80]!r}; a file of {file.group} refers to other settings alone, as in"
                " ${vgg_oversample_rate}: write the value itself, or give it on the command line"
            )


def _its_settings(file: _ConfigFile) -> str:
    return f"settings of {file.group}" if file.sets_its_group else "settings of this program"


def _leads_out(reference: str) -> bool:
    return reference[2:-1].lstrip(".").split(".")[0].split("[")[0] == HYDRA


def _check_package(file: _ConfigFile, problems: Problems) -> None:
    """Hydra puts the keys of a file where its `# @package` line says."""
    own = file.group.replace("/", ".")
    allowed = ("_global_",) if file.is_root else ("_group_", own) if file.sets_its_group else ("_global_", "_group_", own)
    for package in file.packages:
        if package not in allowed:
            what = "a file without a group" if file.is_root else f"a file of {file.group}"
            problems.add(f"{file.path} says '@package {package}'; {what} sets {_its_settings(file)} alone: remove that line")


def _keys_of_hydra(file: _ConfigFile) -> list[str]:
    """The dotted keys of Hydra's own that a file without a group sets and may not."""
    node = file.values.get(HYDRA)
    if not isinstance(node, Mapping):
        return [HYDRA] if node is not None else []
    return [f"{HYDRA}.{key}" for key in node if key not in _HYDRA_KEYS]


def _texts(values: Any) -> Iterator[tuple[str, str]]:
    """Dotted key and value of every text below, keys that hold references included."""
    waiting: list[tuple[str, Any]] = [("", values)]
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, str):
            yield key, value
        elif isinstance(value, Mapping):
            waiting += [(f"{key}.{name}".lstrip("."), each) for name, each in value.items()]
        elif isinstance(value, list):
            waiting += [(key, each) for each in value]


def _defaults(file: _ConfigFile, folders: Sequence[Path], problems: Problems) -> list[tuple[str, str]]:
    """The files that a file builds on, as (group, name). What it may not build on goes to `problems`."""
    given = file.values.get("defaults")
    found: list[tuple[str, str]] = []
    for entry in given if isinstance(given, list) else [] if given is None else [given]:
        if entry == "_self_":
            continue
        chosen = _chosen_by_root(entry, file, folders) if file.is_root else _chosen_in_group(entry, file)
        if chosen is None:
            want = "files by name, as in `- data: mine`" if file.is_root else f"other files of {file.group} alone, as in `- base`"
            problems.add(f"{file.path} has {_shown(entry)} in its defaults; it may build on {want}")
        else:
            found += chosen
    return found


def _shown(entry: Any) -> str:
    if isinstance(entry, Mapping) and len(entry) == 1:
        ((key, value),) = entry.items()
        return repr(f"{key}: {value}")
    return repr(entry)


def _chosen_in_group(entry: Any, file: _ConfigFile) -> list[tuple[str, str]] | None:
    return [(file.group, entry)] if isinstance(entry, str) and _PLAIN_NAME.fullmatch(entry) else None


def _chosen_by_root(entry: Any, file: _ConfigFile, folders: Sequence[Path]) -> list[tuple[str, str]] | None:
    """What an entry of the defaults of a file without a group chooses; None where that is not told by a plain name."""
    if isinstance(entry, str):
        group, _, given = entry.rpartition("/")
        is_absolute = entry.startswith("/")
    elif isinstance(entry, Mapping) and len(entry) == 1:
        ((key, given),) = entry.items()
        group = str(key).removeprefix("override ").removeprefix("optional ").strip()
        is_absolute = group.startswith("/")
    else:
        return None
    parts = [part for part in ("" if is_absolute else file.group, *group.split("/")) if part]
    names = given if isinstance(given, list) else [] if given is None else [given]
    if not all(_PLAIN_NAME.fullmatch(part) for part in parts) or not all(isinstance(name, str) and "@" not in name for name in names):
        return None
    group = "/".join(parts)
    if any("${" in name for name in names):  # it may be any of them
        names = sorted({path.stem for folder in folders for path in (folder / group).glob("*.yaml")})
    return [(group, name) for name in names]
