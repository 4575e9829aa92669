"""One composition a command: config/ and overrides to settings."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from mmaudio.base.errors import Problems, UserError
from mmaudio.settings.conversion import build_settings, dotted_keys
from mmaudio.settings.data_sources import LISTS, PRESETS, SOURCE_KEYS_WITHOUT_EFFECT, read_data, read_eval_data, source_key
from mmaudio.settings.overrides import Override, config_folders, quote, read_overrides, split_flags
from mmaudio.settings.schema import _check_files, _with_sound_names

# ---- Every setting of a run, as frozen dataclasses that mirror config/*.yaml, and the way from a command line to them

DEBUG_ITERATIONS = 20  # where debug=True stops unless num_iterations is given
WITHOUT_EFFECT = {  # settings of published command lines that are accepted, and why they do nothing
    "pin_memory": "on a GPU batches always travel through pinned memory",
}


@dataclass(frozen=True)
class ComposedCommand:
    """A command line, understood. `argv` is what Hydra is to read in its place; `notes` say what was chosen unasked.

    `given` are the dotted names of the settings that the command line names itself, `plain` all values as they were composed.
    """

    settings: Any
    run_dir: Path
    argv: list[str]
    only_shows: bool
    notes: tuple[str, ...]
    given: tuple[str, ...]
    plain: Mapping[str, Any]


def plain_values(config: DictConfig) -> dict[str, Any]:
    """A composed configuration as plain values, interpolations resolved, without Hydra's own node."""
    own = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    return {str(key): value for key, value in dict(OmegaConf.to_container(own, resolve=True)).items()}  # type: ignore[arg-type]


def settings_from(cls: Any, plain: Mapping[str, Any], problems: Problems) -> Any:
    """Build a settings class from plain values; every mistake in them goes to `problems`, and the default stands in for it."""
    opened: dict[str, Any] = {"data": read_data(plain.get("data") or {}, problems)}
    if any(field.name == "eval_data" for field in fields(cls)):
        opened["eval_data"] = read_eval_data(plain.get("eval_data") or {}, problems)
    settings = replace(build_settings(cls, {key: value for key, value in plain.items() if key not in opened}, "", problems), **opened)
    return _with_sound_names(settings, problems)


def read_command(
    argv: Sequence[str],
    cls: Any,
    config_dir: Path,
    config_name: str,
    name_run: Callable[[Any], str],
    problems: Problems,
    *,
    is_first: bool = True,
) -> ComposedCommand:
    """Understand a command line before Hydra reads it. Mistakes go to `problems`; nothing is written. The settings have a name.

    Args:
        name_run: gives settings without exp_id their name.
        is_first: whether this process is rank 0, the only one that writes Hydra's record of the configuration.
    """
    keys = dict(dotted_keys(cls))
    words = split_flags(argv, keys, problems)
    folders = config_folders(words, config_dir, problems)
    given = [override for override in read_overrides(words, keys, folders, problems) if _is_sound(override, problems)]
    name = words.flags.get("--config-name") or config_name
    _check_files(given, folders, name, problems)
    config = _compose(given, folders, name, problems)
    implied, notes = _implied(config, keys, {override.key for override in given}, problems)
    config = _compose([*implied, *given], folders, name, problems) if implied else config
    settings = settings_from(cls, plain_values(config), problems)
    if settings.exp_id is None:
        try:
            run_name = name_run(settings)
        except UserError as error:
            is_null = plain_values(config).get("exp_id") is None  # else what is wrong with it is among the problems
            raise UserError(*problems.sentences, *(error.sentences if is_null else ())) from None
        given = [override for override in given if override.key != "exp_id"]  # null, removed, or no name
        implied.append(Override("", "exp_id", quote(run_name)))
        config = _compose([*implied, *given], folders, name, problems)
        settings = replace(settings_from(cls, plain_values(config), problems), exp_id=run_name)
    quiet = [] if is_first else [Override("", "hydra.output_subdir", "null")]
    words_for_hydra = words.argv([str(override) for override in (*implied, *given, *quiet)])
    run_dir = Path(OmegaConf.select(config, "hydra.run.dir") or "output")
    notes_told, keys_given = (*notes, *_idle_notes(given)), tuple(override.key for override in given)
    return ComposedCommand(settings, run_dir, words_for_hydra, words.only_shows, notes_told, keys_given, plain_values(config))


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


def _implied(config: DictConfig, keys: Mapping[str, Any], given: set[str], problems: Problems) -> tuple[list[Override], list[str]]:
    """What some settings imply for others that the command does not give, and what to tell the user about it."""
    chosen, notes = dict[str, Any](), list[str]()
    data, sources = config.get("data") or {}, read_data(plain_values(config).get("data") or {}, Problems()).sources
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
    elif "data.train" in given:
        for key in ("val", "test"):
            missing = [name for name in data.get(key) or () if name not in sources or not sources[name].is_there()]
            if missing and f"data.{key}" not in given:
                chosen[f"data.{key}"] = "[]"
                notes.append(f"no {key} data: {', '.join(missing)} is not there; name other sources with 'data.{key}=[...]'")
    asked = {key: value for key, value in chosen.items() if key in keys and key not in given}
    return [Override("", key, str(value)) for key, value in asked.items()], notes


def _idle_notes(given: Sequence[Override]) -> Iterator[str]:
    """A sentence for every given setting that this version accepts and makes no use of."""
    for override in given:
        source = source_key(override.key)
        if override.key in WITHOUT_EFFECT:
            yield f"{override.key} has no effect in this version: {WITHOUT_EFFECT[override.key]}"
        elif source and source.key in SOURCE_KEYS_WITHOUT_EFFECT:
            yield f"{override.key} has no effect in this version: a source is its store, whose rows and lengths are settled"


def _config_folder() -> Path:
    """Where our YAML files are: in the package, as the wheel has them, or else beside it, as in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "config"
    return inside if inside.is_dir() else package.with_name("config")


CONFIG_DIR = _config_folder()
