"""Groups of settings, as frozen dataclasses that mirror the nested parts of config/*.yaml."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from mmaudio.base.typed import setting


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
    batch_size: int = setting(16, low=1, defines_run=False)  # clips a judge hears at once
    clean_names: bool = setting(False, defines_run=False)  # rename ids by their length, as av-bench does: for its old caches
    places: Mapping[str, Any] = field(default_factory=dict, metadata={"defines_run": False})  # weight of a judge → path or repository
