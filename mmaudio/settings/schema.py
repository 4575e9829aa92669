"""Every setting: kind, range, whether it defines the run.

The home of a default is config/*.yaml. The value here is the one that a setting was born with: signatures of runs leave it out, and
folders of before the setting was there are filled with it. So it never changes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mmaudio.base.specs import DEFAULT_DURATION_S, MIN_DURATION_S
from mmaudio.settings.conversion import setting
from mmaudio.settings.data_sources import DataSettings, EvalSetSettings

LONGEST_OF_A_RUN = "_ema_sigma0.0123456_step1000000000_export.pth.json"  # what follows exp_id in the longest name of a file of a run


# ---- Groups of settings


@dataclass(frozen=True)
class DataDims:
    text_seq_len: int = setting(77, low=1)
    clip_dim: int = setting(1024, low=1)
    sync_dim: int = setting(768, low=1)
    text_dim: int = setting(1024, low=1)


@dataclass(frozen=True)
class EmaSettings:
    enable: bool = setting(True)
    sigma_rels: tuple[float, ...] = setting((0.05, 0.1), above=0, high=0.28)
    update_every: int = setting(1, low=1)
    checkpoint_every: int = setting(5000, low=1, defines_run=False)  # EMA updates between two snapshots
    checkpoint_folder: str | None = setting(None, defines_run=False)  # None: ema_ckpts in the run's folder
    max_snapshots_gb: float = setting(100.0, above=0, defines_run=False)  # older snapshots are thinned out past this
    default_output_sigma: float = setting(0.05, above=0, high=0.28, defines_run=False)
    start: int = setting(0, low=0)  # finished iterations before the first update


@dataclass(frozen=True)
class SamplingSettings:
    mean: float = setting(0.0)
    scale: float = setting(1.0, above=0)
    min_sigma: float = setting(0.0, low=0, high=1)
    method: str = setting("euler", defines_run=False)
    num_steps: int = setting(25, low=1, defines_run=False)


@dataclass(frozen=True)
class SolverSettings:
    """The task that is trained: a subclass of `trainer.solver.Solver`, and settings of its own."""

    target: str = setting("mmaudio.trainer.flow_solver.FlowSolver")  # module and class, as Python imports it
    options: Mapping[str, Any] = field(default_factory=dict)  # for tasks whose settings are not among those here


@dataclass(frozen=True)
class StageSettings:
    """When a stage is due, in epochs of `updates_per_epoch`; None: its interval in iterations counts."""

    every: int | None = setting(None, low=1, defines_run=False)


@dataclass(frozen=True)
class ValidSettings(StageSettings):
    max_rows: int | None = setting(None, low=1, defines_run=False)  # None: every row of data.val


@dataclass(frozen=True)
class EvaluateSettings(StageSettings):
    """Sound and scores while training, of rows of data.val; `test`: those of data.test, after the last iteration."""

    max_rows: int | None = setting(None, low=1, defines_run=False)  # None: every row of data.val
    test: bool = setting(True, defines_run=False)


@dataclass(frozen=True)
class MetricsSettings:
    """What sounds are scored by, and against what."""

    names: tuple[str, ...] = setting(("embedded",), defines_run=False)  # metrics, and groups of them: embedded, av_bench
    engine: Literal["own", "av_bench"] = setting("own", defines_run=False)
    reference_cache: str | None = setting(None, defines_run=False)  # of features of the real sounds; None: the set's, or made
    min_coverage: float = setting(0.5, low=0, high=1, defines_run=False)  # share of the reference that has to be scored
    tolerance_s: float = setting(0.1, above=0, defines_run=False)  # within which onsets agree
    batch_size: int = setting(16, low=1, defines_run=False)  # clips an extractor hears at once
    clean_names: bool = setting(False, defines_run=False)  # rename ids by their length, as av-bench does: for its old caches
    places: Mapping[str, Any] = field(default_factory=dict, metadata={"defines_run": False})  # weight of an extractor → path or repository


# ---- The settings of a command, as config/*.yaml has them


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
