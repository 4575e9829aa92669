"""A command line understood: config/ and its overrides composed once, and built to settings once; and where config/ is."""

import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from mmaudio.base.errors import Problems, UserError
from mmaudio.files.atomic import write_text
from mmaudio.files.file_names import check_plain_name, check_plain_path
from mmaudio.settings.config_files import check_config_files
from mmaudio.settings.conversion import build_settings, dotted_keys
from mmaudio.settings.data_sources import (
    LISTS,
    LONGEST_OF_A_SET,
    PRESETS,
    SOURCE_KEYS_WITHOUT_EFFECT,
    read_data,
    read_eval_data,
    source_key,
)
from mmaudio.settings.overrides import Override, chosen_files, config_folders, quote, read_overrides, split_flags
from mmaudio.settings.schema import LONGEST_OF_A_RUN, EvalSettings

DEBUG_ITERATIONS = 20  # where debug=True stops unless num_iterations is given
WITHOUT_EFFECT = {  # settings of published command lines that are accepted, and why they do nothing
    "pin_memory": "on a GPU batches always travel through pinned memory",
}
Complete = Callable[[Path, Mapping[str, Any], Sequence[str]], Mapping[str, Any]]  # see `read_command`


@dataclass(frozen=True)
class ComposedCommand:
    """A command line, understood. `notes` say what was chosen unasked.

    `given` are the dotted names of the settings that the command line names itself, `config` all values as they were composed,
    what the settings imply put in and Hydra's own node included, and `overrides` the words that say so. `argv` is what Hydra is to read
    where the command `only_shows`.
    """

    settings: Any
    run_dir: Path
    notes: tuple[str, ...]
    given: tuple[str, ...]
    config: DictConfig
    overrides: tuple[Override, ...]
    argv: list[str]
    only_shows: bool

    def saved_text(self) -> str:
        """All values as YAML, interpolations resolved: what a run keeps of its settings."""
        return str(OmegaConf.to_yaml(_own(self.config), resolve=True))

    def write_record(self) -> None:
        """Keep what was asked for in the run's folder, as Hydra does: config.yaml and overrides.yaml in `hydra.output_subdir`."""
        subdir = OmegaConf.select(self.config, "hydra.output_subdir")
        if subdir is None:
            return
        folder = self.run_dir / str(subdir)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / "config.yaml", str(OmegaConf.to_yaml(_own(self.config))))
        asked = [str(override) for override in self.overrides if not override.is_hydras]
        write_text(folder / "overrides.yaml", str(OmegaConf.to_yaml(OmegaConf.create(asked))))


def read_command(
    argv: Sequence[str],
    cls: Any,
    config_dir: Path,
    config_name: str,
    name_run: Callable[[Any], str],
    problems: Problems,
    *,
    complete: Complete = lambda _run_dir, plain, _given: plain,
) -> ComposedCommand:
    """Understand a command line: composed once, built to settings once. Mistakes go to `problems`; nothing is written.

    What the settings imply for others, and the name of a run that has none, are put into the composed configuration.

    Args:
        name_run: gives settings without exp_id their name.
        complete: the values to build settings of, from (run folder, composed values, names of the settings given).
    """
    keys = dict(dotted_keys(cls))
    words = split_flags(argv, keys, problems)
    folders = config_folders(words, config_dir, problems)
    given = [override for override in read_overrides(words, keys, folders, problems) if _is_sound(override, problems)]
    names = tuple(override.key for override in given)
    name = words.flags.get("--config-name") or config_name
    _check_files(given, folders, name, problems)
    config = _compose(given, folders, name, problems)
    implied = _put_implied(config, keys, names, problems)
    plain = plain_values(config)
    plain_of_run = plain if words.only_shows else complete(_run_dir(config), plain, names)
    settings = settings_from(cls, plain_of_run, problems)
    settings, missing, notes = _without_missing(settings, config, keys, names)
    implied += missing
    if settings.exp_id is None:
        try:
            run_name = name_run(settings)
        except UserError as error:
            is_null = plain.get("exp_id") is None  # else what is wrong with it is among the problems
            raise UserError(*problems.sentences, *(error.sentences if is_null else ())) from None
        given = [override for override in given if override.key != "exp_id"]  # null, removed, or no name
        implied.append(_put(config, "exp_id", run_name, quote(run_name)))
        settings = replace(settings, exp_id=run_name)
    overrides = (*implied, *given)
    notes += _idle_notes(given)
    hydra_words = words.argv([str(override) for override in overrides])
    return ComposedCommand(settings, _run_dir(config), tuple(notes), names, config, overrides, hydra_words, words.only_shows)


def _check_files(given: Sequence[Override], folders: Sequence[Path], name: str, problems: Problems) -> None:
    """Raises: UserError with all mistakes found so far, where a configuration file sets what is not ours: Hydra must not read it."""
    everywhere = [*folders, *_searched_folders(given)]
    try:
        check_config_files(everywhere, name, chosen_files(given, everywhere))
    except UserError as error:
        raise UserError(*problems.sentences, *error.sentences) from None


def _searched_folders(given: Sequence[Override]) -> list[Path]:
    """The folders that a command line adds to those where configuration is looked for."""
    values = [OverridesParser.create().parse_override(str(each)).value() for each in given if each.key == "hydra.searchpath" and each.value]
    names = [str(name) for value in values if isinstance(value, list) for name in value]
    return [Path(name.removeprefix("file://")) for name in names if not name.startswith("pkg://")]


def _is_sound(override: Override, problems: Problems) -> bool:
    try:
        OverridesParser.create().parse_override(str(override))
    except HydraException as error:
        problems.add(f"{override} cannot be read: {_first_line(error)}; put the value in quotes")
        return False
    return True


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]


def _compose(overrides: Sequence[Override], folders: Sequence[Path], config_name: str, problems: Problems) -> DictConfig:
    """The composed configuration, `hydra` node included; an empty one, and a problem, where it cannot be composed."""
    words = [str(override) for override in overrides]
    if len(folders) > 1 and not any(override.key == "hydra.searchpath" for override in overrides):
        words.append("hydra.searchpath=[" + ",".join(quote(f"file://{folder}") for folder in folders[1:]) + "]")
    try:
        with initialize_config_dir(str(folders[0]), version_base="1.3"):
            config = compose(config_name, words, return_hydra_config=True)
        plain_values(config)  # resolves every interpolation
    except (HydraException, OmegaConfBaseException, YAMLError, ValueError) as error:
        problems.add(f"the configuration does not compose: {_first_line(error)}")
        return OmegaConf.create({})
    return config


def _run_dir(config: DictConfig) -> Path:
    return Path(OmegaConf.select(config, "hydra.run.dir") or "output")


def plain_values(config: DictConfig) -> dict[str, Any]:
    """A composed configuration as plain values, interpolations resolved, without Hydra's own node."""
    return {str(key): value for key, value in dict(OmegaConf.to_container(_own(config), resolve=True)).items()}  # type: ignore[arg-type]


def _own(config: DictConfig) -> DictConfig:
    """A composed configuration without Hydra's own node."""
    return OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])


def _put_implied(config: DictConfig, keys: Mapping[str, Any], given: Collection[str], problems: Problems) -> list[Override]:
    """Put in what some settings imply for others that the command does not give."""
    chosen, data = dict[str, Any](), config.get("data") or {}
    if config.get("debug") is True:
        on_gpu = str(config.get("device")).startswith("cuda")  # where a preview at each iteration takes no longer than the iteration
        previews = 1 if on_gpu else DEBUG_ITERATIONS
        chosen |= {"num_iterations": DEBUG_ITERATIONS, "log_text_interval": 1, "log_extra_interval": previews, "evaluate.test": False}
    presets = [preset for preset in PRESETS if config.get(preset) is True]
    if len(presets) > 1:
        problems.add(f"{' and '.join(presets)} both say what to train on; give one of them")
    elif presets and not data.get(presets[0]):
        problems.add(f"{presets[0]} is True, but the chosen data has no lists of that name; give data.train and data.val instead")
    elif presets:
        chosen |= {f"data.{key}": f"${{data.{presets[0]}.{key}}}" for key in LISTS}
    return [_put(config, key, value) for key, value in chosen.items() if key in keys and key not in given]


def _put(config: DictConfig, key: str, value: Any, text: str | None = None) -> Override:
    """Put a value into a composed configuration. Returns: the override that would have; `text` is the value in Hydra's grammar."""
    with open_dict(config):
        OmegaConf.update(config, key, value, merge=False)
    return Override("", key, str(value) if text is None else text)


def settings_from(cls: Any, plain: Mapping[str, Any], problems: Problems) -> Any:
    """Build a settings class from plain values; every mistake in them goes to `problems`, and the default stands in for it."""
    opened: dict[str, Any] = {"data": read_data(plain.get("data") or {}, problems)}
    if any(field.name == "eval_data" for field in fields(cls)):
        opened["eval_data"] = read_eval_data(plain.get("eval_data") or {}, problems)
    settings = replace(build_settings(cls, {key: value for key, value in plain.items() if key not in opened}, "", problems), **opened)
    return _with_sound_names(settings, problems)


def _with_sound_names(settings: Any, problems: Problems) -> Any:
    """Settings whose names of files and folders can be such; the sentence for one that cannot goes to `problems`."""
    exp_id = settings.exp_id
    if isinstance(settings, EvalSettings):
        longest = ""  # the run is there, and its results do not have its name
        if settings.dataset is not None:
            problems.check(partial(check_plain_path, "dataset", settings.dataset, LONGEST_OF_A_SET))
        if settings.output_name is not None:
            problems.check(partial(check_plain_name, "output_name", settings.output_name, LONGEST_OF_A_SET))
    else:
        longest = LONGEST_OF_A_RUN
    try:
        if exp_id is not None:
            check_plain_name("exp_id", exp_id, longest)
    except UserError as error:
        problems.add(str(error))
        return replace(settings, exp_id=None)
    return settings


def _without_missing(
    settings: Any, config: DictConfig, keys: Mapping[str, Any], given: Collection[str]
) -> tuple[Any, list[Override], list[str]]:
    """Whoever names data to train on, and none to validate or test on, does without the configuration's where they are not there.

    Returns: the settings, what was put into the configuration, and what to tell the user about it.
    """
    implied, notes = list[Override](), list[str]()
    if "data.train" not in given or any(config.get(preset) is True for preset in PRESETS):
        return settings, implied, notes
    for key in ("val", "test"):
        listed, sources = getattr(settings.data, key), settings.data.sources
        missing = [name for name in listed if name not in sources or not sources[name].is_there()]
        if missing and f"data.{key}" in keys and f"data.{key}" not in given:
            settings = replace(settings, data=replace(settings.data, **{key: ()}))
            implied.append(_put(config, f"data.{key}", []))
            notes.append(f"no {key} data: {', '.join(missing)} is not there; name other sources with 'data.{key}=[...]'")
    return settings, implied, notes


def _idle_notes(given: Sequence[Override]) -> Iterator[str]:
    """A sentence for every given setting that this version accepts and makes no use of."""
    for override in given:
        source = source_key(override.key)
        if override.key in WITHOUT_EFFECT:
            yield f"{override.key} has no effect in this version: {WITHOUT_EFFECT[override.key]}"
        elif source and source.key in SOURCE_KEYS_WITHOUT_EFFECT:
            yield f"{override.key} has no effect in this version: a source is its store, whose rows and lengths are settled"


def show(command: ComposedCommand, config_name: str) -> None:
    """Have Hydra show what the command line asks for: --help, --cfg, --info."""
    import hydra

    sys.argv[1:] = command.argv
    hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name=config_name)(lambda _: None)()


# ---- Where our configuration and scripts are


def _config_folder() -> Path:
    """Where our YAML files are: in the package, as the wheel has them, or else beside it, as in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "config"
    return inside if inside.is_dir() else package.with_name("config")


CONFIG_DIR = _config_folder()


def program(script: str, command: str) -> str:
    """What follows `python` or `torchrun` to run a command of ours: its script, in a checkout, or else the package and its word."""
    return script if (CONFIG_DIR.parent / script).is_file() else f"-m mmaudio {command}"
