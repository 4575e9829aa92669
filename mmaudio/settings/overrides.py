"""The words of a command line, before they are composed: unknown keys found, text kept as text, new data sources let in.

Hydra's own grammar would read `exp_id=1e5` as a number and `exp_id=00008004` as 8004, and stops at its first complaint.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

from mmaudio.base.errors import Problems, nearest
from mmaudio.settings.conversion import accepts_null, accepts_text
from mmaudio.settings.data_sources import source_key

_FLAGS_WITH_VALUE = {
    "--cfg": "-c",
    "--package": "-p",
    "--config-path": "-cp",
    "--config-name": "-cn",
    "--config-dir": "-cd",
}
_FLAGS = {"--help": "-h", "--hydra-help": "", "--version": "", "--resolve": "", "--run": "-r", "--shell-completion": "-sc", "--info": "-i"}
_LONG_NAMES = {short: long for long, short in (_FLAGS_WITH_VALUE | _FLAGS).items() if short}
_ONLY_SHOW = ("--help", "--hydra-help", "--version", "--cfg", "--shell-completion", "--info")
_RERUN = "--experimental-rerun"
_NO_RERUN = f"{_RERUN} unpickles a file, which can run any code; give the settings themselves: overrides.yaml beside that file has them"
_FOLDERS = ("--config-path", "--config-dir")  # Hydra takes the first from another folder than the second
FREE_KEYS = ("solver.options.", "metrics.places.")  # of tasks that are not ours, and of weights by name: nothing here can know them
_OVERRIDE = re.compile(r"(?P<sign>~|\+{0,2})(?P<key>[^=]+?)(?:=(?P<value>.*))?", re.DOTALL)


@dataclass(frozen=True)
class ParsedWords:
    """A command line taken apart: Hydra's flags (long name → value, or ""), and the settings, in order."""

    flags: Mapping[str, str]
    overrides: tuple[str, ...]

    @property
    def only_shows(self) -> bool:
        """Whether the command shows something (--help, --cfg job) and runs nothing."""
        return any(flag in self.flags for flag in _ONLY_SHOW)

    def argv(self, overrides: Sequence[str]) -> list[str]:
        """The words to hand to Hydra where it is to show something, with `overrides` as settings."""
        flags = [word for flag, value in self.flags.items() for word in ((flag, value) if value else (flag,))]
        return [*flags, *overrides]


def split_flags(argv: Sequence[str], keys: Collection[str], problems: Problems) -> ParsedWords:
    """Part flags from settings. An option Hydra does not know goes to `problems`; `keys` are the settings there are."""
    flags: dict[str, str] = {}
    overrides: list[str] = []
    words = iter(argv)
    for word in words:
        flag, _, value = word.partition("=")
        name = _LONG_NAMES.get(flag, flag)
        if not word.startswith("-"):
            overrides.append(word)
        elif name in _FLAGS_WITH_VALUE:
            flags[name] = value or next(words, "")
            if not flags[name] or flags[name].startswith("-"):
                problems.add(f"{flag} wants a value")
            elif name in _FOLDERS:
                flags[name] = str(Path(flags[name]).absolute())
        elif name == _RERUN:
            problems.add(_NO_RERUN)
            value = value or next(words, "")
        elif name in _FLAGS and not value.startswith("-"):
            flags[name] = value
        else:
            problems.add(_unknown_flag(flag, keys))
    return ParsedWords(flags, tuple(overrides))


def _unknown_flag(flag: str, keys: Collection[str]) -> str:
    key = flag.lstrip("-").replace("-", "_")
    if flag in ("-m", "--multirun"):
        return f"{flag}: one command trains one model; give each combination its own command"
    if key in keys:
        return f"unknown option {flag}; settings are given without dashes: {key}=VALUE"
    return f"unknown option {flag}{nearest(flag, (*_FLAGS_WITH_VALUE, *_FLAGS)) or nearest(key, keys)}; settings are given as key=VALUE"


def config_folders(words: ParsedWords, config_dir: Path, problems: Problems) -> list[Path]:
    """Where configuration is looked for: ours (or --config-path), then the user's --config-dir."""
    named = [words.flags.get("--config-path") or config_dir, words.flags.get("--config-dir")]
    folders = [Path(folder) for folder in named if folder]
    for folder in folders:
        if not folder.is_dir():
            problems.add(f"no config folder at {folder}")
    return [folder for folder in folders if folder.is_dir()] or [config_dir]


@dataclass(frozen=True)
class Override:
    """One setting of a command line: `+ema.enable=True` is sign "+", key "ema.enable", value "True"."""

    sign: str
    key: str
    value: str | None

    @property
    def is_hydras(self) -> bool:
        """Whether it sets something of Hydra itself."""
        return self.key.startswith(("hydra.", "hydra/", "hydra@"))

    def __str__(self) -> str:
        return f"{self.sign}{self.key}" + ("" if self.value is None else f"={self.value}")


def read_overrides(words: ParsedWords, keys: Mapping[str, Any], folders: Sequence[Path], problems: Problems) -> list[Override]:
    """The settings of a command line as Hydra should read them; keys there are not go to `problems`.

    `keys` are the dotted names of all settings and their kinds; `data.<source>.<key>` may name a source that is new.
    """
    groups = {entry.name for folder in folders for entry in folder.iterdir() if entry.is_dir()}
    read = (_understand_one(word, keys, groups, folders, problems) for word in words.overrides)
    return [override for override in read if override is not None]


def _understand_one(word: str, keys: Mapping[str, Any], groups: set[str], folders: Sequence[Path], problems: Problems) -> Override | None:
    found = read_override(word, problems)
    if found is None or found.is_hydras:
        return found
    if found.key in groups:
        return _known_choice(found, folders, problems)
    if found.key.startswith(FREE_KEYS):
        return Override("++" if found.sign != "~" else found.sign, found.key, found.value)
    source = source_key(found.key)
    kinds = source.kinds() if source else keys
    name = (source.key or "") if source else found.key
    if name and name not in kinds:
        choices = kinds if source else (*keys, *groups)
        problems.add(f"unknown setting {found.key}{nearest(name, choices)}")
        return None
    sign = "++" if source and found.sign != "~" else found.sign
    return Override(sign, found.key, found.value and as_value(found.value, kinds.get(name)))


def read_override(word: str, problems: Problems) -> Override | None:
    """One word taken apart; None, and a sentence in `problems`, where it is no setting."""
    match = _OVERRIDE.fullmatch(word)
    if match is None or (match["value"] is None and match["sign"] != "~"):
        problems.add(f"{word!r} is no setting; settings are given as key=VALUE")
        return None
    return Override(match["sign"], match["key"].strip(), match["value"])


def _known_choice(found: Override, folders: Sequence[Path], problems: Problems) -> Override | None:
    names = sorted(file.stem for folder in folders for file in (folder / found.key).glob("*.yaml"))
    if str(found.value).removesuffix(".yaml") in names:
        return found
    where = " or ".join(str(folder / found.key) for folder in folders)
    problems.add(f"{found}: no {found.value}.yaml in {where}{nearest(str(found.value), names)}; there is {', '.join(names)}")
    return None


def as_value(text: str, kind: Any) -> str:
    """A setting's value as Hydra should be given it, so that what is text by its kind stays the text it is."""
    if get_origin(kind) is tuple and accepts_text(get_args(kind)[0]) and text.startswith("[") and text.endswith("]"):
        items = re.findall(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|[^,]+""", text[1:-1])
        return "[" + ",".join(as_value(item.strip(), str) for item in items if item.strip()) + "]"
    if not accepts_text(kind) or text == "" or _is_quoted(text) or (text == "null" and accepts_null(kind)):
        return text
    return quote(text)


def quote(text: str) -> str:
    """`text` as Hydra's grammar reads it back unchanged (interpolations in it still work)."""
    escaped = re.sub(r"(\\*)'", lambda match: match[1] * 2 + "\\'", text)
    trailing = len(escaped) - len(escaped.rstrip("\\"))
    return "'" + escaped + "\\" * trailing + "'"


def _is_quoted(text: str) -> bool:
    return len(text) >= 2 and text[0] == text[-1] and text[0] in "'\""


def chosen_files(overrides: Sequence[Override], folders: Sequence[Path]) -> list[tuple[str, str]]:
    """The files that settings choose, as (group, file), of folders of configuration: `data=mine` is ("data", "mine")."""
    keys = [(override.key.partition("@")[0], override.value) for override in overrides]
    return [(key, value) for key, value in keys if value and any((folder / key).is_dir() for folder in folders)]
