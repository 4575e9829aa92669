"""Every setting of a run, as frozen dataclasses that mirror config/*.yaml, and the way from a command line to them.

`read_command` runs before Hydra does: it hears of every mistake at once and hands Hydra a command line it reads as meant.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from mmaudio.base.command_line import Override, chosen_files, config_folders, quote, take_apart, understand
from mmaudio.base.config_files import check_config_files
from mmaudio.base.errors import Problems, UserError
from mmaudio.base.file_names import check_plain_name, check_plain_path
from mmaudio.base.setting_groups import (
    DataDims,
    EmaSettings,
    EvaluateSettings,
    MetricsSettings,
    SamplingSettings,
    SolverSettings,
    StageSettings,
    ValidSettings,
)
from mmaudio.base.sources import (
    LISTS,
    LONGEST_OF_A_SET,
    PRESETS,
    SOURCE_KEYS_WITHOUT_EFFECT,
    DataSettings,
    EvalSetSettings,
    read_data,
    read_eval_data,
    source_key,
)
from mmaudio.base.specs import DEFAULT_DURATION_S, MIN_DURATION_S
from mmaudio.base.typed import dotted_keys, read_group, setting

LONGEST_OF_A_RUN = "_ema_sigma0.0123456_step1000000000_export.pth.json"  # what follows exp_id in the longest name of a file of a run
DEBUG_ITERATIONS = 20  # where debug=True stops unless num_iterations is given
WITHOUT_EFFECT = {  # settings of published command lines that are accepted, and why they do nothing
    "pin_memory": "on a GPU batches always travel through pinned memory",
}


@dataclass(frozen=True)
class BaseSettings:
    """What training and evaluation share; spec/training.md section 10, "Base"."""

    model: str = setting("small_16k")
    exp_id: str | None = setting(None, defines_run=False)  # None: the run's signature
    backend: Literal["pretrained", "lite"] = setting("pretrained")
    device: str = setting("cuda", defines_run=False)
    duration_s: float = setting(DEFAULT_DURATION_S, low=MIN_DURATION_S)
    enable_email: bool = setting(False, defines_run=False)
    debug: bool = setting(False, defines_run=False)
    cudnn_benchmark: bool = setting(True, defines_run=False)
    compile: bool | Literal["auto"] = setting("auto", defines_run=False)
    amp: bool | Literal["auto"] = setting("auto")
    weights: str | None = setting(None)
    checkpoint: str | None = setting(None)
    seed: int = setting(14159265, low=0)
    num_workers: int | None = setting(None, low=0, defines_run=False)
    pin_memory: bool = setting(False, defines_run=False)
    data_dim: DataDims = field(default_factory=DataDims)
    ema: EmaSettings = field(default_factory=EmaSettings)
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    vgg_oversample_rate: int = setting(5, low=1, defines_run=False)  # what data/base.yaml repeats VGGSound by
    null_condition_probability: float = setting(0.1, low=0, high=1)
    cfg_strength: float = setting(4.5, defines_run=False)
    vae_16k_ckpt: str = setting("./ext_weights/v1-16.pth", defines_run=False)
    vae_44k_ckpt: str = setting("./ext_weights/v1-44.pth", defines_run=False)
    bigvgan_vocoder_ckpt: str = setting("./ext_weights/best_netG.pt", defines_run=False)
    bigvgan_44k_ckpt: str = setting("./ext_weights/bigvgan_v2_44khz_128band_512x", defines_run=False)
    synchformer_ckpt: str = setting("./ext_weights/synchformer_state_dict.pth", defines_run=False)
    clip_ckpt: str = setting("./ext_weights/DFN5B-CLIP-ViT-H-14-384", defines_run=False)
    empty_string_ckpt: str = setting("./ext_weights/empty_string.pth", defines_run=False)
    metrics: MetricsSettings = field(default_factory=MetricsSettings)
    data: DataSettings = field(default_factory=DataSettings)

    def name(self) -> str:
        """The run's name in its file names. Raises: ValueError where no exp_id was settled."""
        if not self.exp_id:
            raise ValueError("these settings have no exp_id; give one, or use runs.signature")
        return self.exp_id


@dataclass(frozen=True)
class TrainSettings(BaseSettings):
    """Training on top of the base; spec/training.md section 10, "Training". Counts are of finished iterations."""

    mini_train: bool = setting(False, defines_run=False)
    example_train: bool = setting(False, defines_run=False)
    enable_grad_scaler: bool = setting(False, defines_run=False)
    validate_first: bool = setting(True, defines_run=False)  # the untrained network's loss, too
    log_text_interval: int = setting(200, low=0, defines_run=False)
    log_extra_interval: int = setting(20000, low=0, defines_run=False)
    val_interval: int = setting(5000, low=0, defines_run=False)
    eval_interval: int = setting(20000, low=0, defines_run=False)
    save_eval_interval: int = setting(40000, low=0, defines_run=False)
    save_weights_interval: int = setting(10000, low=0, defines_run=False)
    save_checkpoint_interval: int = setting(10000, low=0, defines_run=False)
    save_copy_iterations: tuple[int, ...] = setting((), low=1, defines_run=False)
    batch_size: int = setting(512, low=1)  # per optimizer step, all processes together
    eval_batch_size: int = setting(256, low=1, defines_run=False)  # per process
    micro_batch: int | None = setting(None, low=1, defines_run=False)  # rows a process computes at once; None: all of its share
    num_iterations: int = setting(300000, low=1)
    updates_per_epoch: int | None = setting(None, low=1, defines_run=False)  # iterations of an epoch; None: one pass over the data
    valid: ValidSettings = field(default_factory=ValidSettings)
    evaluate: EvaluateSettings = field(default_factory=EvaluateSettings)
    generate: StageSettings = field(default_factory=StageSettings)
    best_metric: str | None = setting(None, defines_run=False)  # stage/name by which the best weights are kept; None: the task's own
    execute_only: Literal["train", "valid", "evaluate", "generate"] | None = setting(None, defines_run=False)  # None: all of them
    solver: SolverSettings = field(default_factory=SolverSettings)
    parallel: Literal["ddp", "fsdp"] = setting("ddp", defines_run=False)  # whole network on every process, or a share of it
    placement: Literal["memmap", "ram", "device"] = setting("memmap", defines_run=False)  # where the stores are while training
    caption_table_gb: float = setting(4.0, low=0, defines_run=False)  # captions kept on the device, as far as they fit
    keep_checkpoints: int = setting(2, low=1, defines_run=False)  # the newest ones; save_copy_iterations are never removed
    max_skipped_steps: int = setting(0, low=0, defines_run=False)  # steps without a finite gradient that may be left out from a start on
    hang_timeout_s: float = setting(1800.0, above=0, defines_run=False)  # without progress for so long, all stacks are shown
    learning_rate: float = setting(1e-4, above=0)
    linear_warmup_steps: int = setting(1000, low=0)
    lr_schedule: Literal["step", "constant", "poly"] = setting("step")
    lr_schedule_steps: tuple[int, ...] = setting((240000, 270000), low=0)
    lr_schedule_gamma: float = setting(0.1, above=0)
    clip_grad_norm: float = setting(1.0, above=0)
    freeze: tuple[str, ...] = setting(())  # parameters that are not trained, by patterns of their names
    final_cond: Literal["global", "extended"] | None = setting(None)  # what modulates the final layer; None: as the variant has it
    null_sampling: Literal["joint", "independent"] | None = setting(None)  # of clip and sync, for guidance; None: as the variant has it
    drop_conditions: tuple[str, ...] = setting(())  # conditions this run does without: clip, sync, text
    weight_decay: float = setting(1e-6, low=0)

    def only_stage(self) -> str | None:
        """The stage that is all there is to do, none of it training; None for a run that trains."""
        return None if self.execute_only == "train" else self.execute_only


@dataclass(frozen=True)
class EvalSettings(BaseSettings):
    """Batch evaluation on top of the base; spec/training.md section 10, "Evaluation"."""

    dataset: str | None = setting(None)  # None: the test data of a run, or audiocaps for a published model
    batch_size: int = setting(16, low=1)  # per process
    output_name: str | None = setting(None)
    reference: str | None = setting(None)  # folder of the real sounds, {id}.flac, .wav, or a video; None: as the set has them
    max_rows: int | None = setting(None, low=1)
    keep_existing: bool = setting(True)  # skip samples that the same weights and settings have made already
    eval_data: Mapping[str, EvalSetSettings] = field(default_factory=dict)


@dataclass(frozen=True)
class Command:
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
    settings = replace(read_group(cls, {key: value for key, value in plain.items() if key not in opened}, "", problems), **opened)
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


def read_command(
    argv: Sequence[str],
    cls: Any,
    config_dir: Path,
    config_name: str,
    name_run: Callable[[Any], str],
    problems: Problems,
    *,
    is_first: bool = True,
) -> Command:
    """Understand a command line before Hydra reads it. Mistakes go to `problems`; nothing is written. The settings have a name.

    Args:
        name_run: gives settings without exp_id their name.
        is_first: whether this process is rank 0, the only one that writes Hydra's record of the configuration.
    """
    keys = dict(dotted_keys(cls))
    words = take_apart(argv, keys, problems)
    folders = config_folders(words, config_dir, problems)
    given = [override for override in understand(words, keys, folders, problems) if _is_sound(override, problems)]
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
    return Command(settings, run_dir, words_for_hydra, words.only_shows, notes_told, keys_given, plain_values(config))


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
