"""The `data` settings: named sources side by side, and the lists that say which of them train, validate and test.

And the `eval_data` settings: named sets of videos or captions that a trained model is evaluated on.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from mmaudio.base.errors import Problems, nearest
from mmaudio.files.file_names import check_plain_path
from mmaudio.settings.conversion import build_settings, field_types, setting

LISTS = ("train", "val", "test")
PRESETS = ("example_train", "mini_train")  # lists that the setting of this name puts in place of the three above
LONGEST_OF_A_SET = "-output_metrics.json"  # what follows the name of a set in the longest name of its results
SOURCE_KEYS_WITHOUT_EFFECT = ("subset_name", "fps", "height", "width", "sample_duration_sec")


@dataclass(frozen=True)
class SourceSettings:
    """One source of data: a store (tsv and memmap_dir), or the folder of the videos themselves (root)."""

    kind: Literal["video", "audio"] | None = setting(None)  # None: what the store says
    tsv: str | None = setting(None)
    memmap_dir: str | None = setting(None)
    repeat: int = setting(1, low=1)  # times each row counts in the training set
    tag: str | None = setting(None, defines_run=False)  # what its samples and scores are called in the run's folder
    gt_cache: str | None = setting(None, defines_run=False)  # av-bench's features of its real sounds
    output_subdir: str | None = setting(None, defines_run=False)  # where in the run's folder its samples go while training
    root: str | None = setting(None, defines_run=False)  # folder of its media, {id}.mp4, .flac or .wav: the real sounds
    # what follows is kept for published configurations; see SOURCE_KEYS_WITHOUT_EFFECT
    subset_name: str | None = setting(None, defines_run=False)
    fps: int | None = setting(None, defines_run=False)
    height: int | None = setting(None, defines_run=False)
    width: int | None = setting(None, defines_run=False)
    sample_duration_sec: float | None = setting(None, defines_run=False)

    def is_there(self) -> bool:
        """Whether table and folder of the store exist."""
        return bool(self.tsv and self.memmap_dir) and Path(str(self.tsv)).is_file() and Path(str(self.memmap_dir)).is_dir()


@dataclass(frozen=True)
class DataSettings:
    """Sources by name, and the names that each list has of them."""

    sources: Mapping[str, SourceSettings] = field(default_factory=dict)
    train: tuple[str, ...] = setting(())
    val: tuple[str, ...] = setting(())
    test: tuple[str, ...] = setting((), defines_run=False)

    def chosen(self, *lists: str) -> dict[str, SourceSettings]:
        """The sources that the lists of these names hold, each once, in order."""
        return {name: self.sources[name] for key in lists for name in getattr(self, key) if name in self.sources}


@dataclass(frozen=True)
class EvalSetSettings:
    """One set to evaluate on. `kind` says how its table is read (spec/data.md section 9); `table`: a .tsv with id and label or caption."""

    kind: Literal["audiocaps", "moviegen", "vggsound", "table"] = setting("table")
    audio_path: str | None = setting(None)  # folder of the real sounds
    video_path: str | None = setting(None)  # folder of the videos
    csv_path: str | None = setting(None)  # audiocaps, vggsound
    jsonl_path: str | None = setting(None)  # moviegen: folder of {id}.jsonl
    tsv: str | None = setting(None)  # table
    gt_cache: str | None = setting(None)  # av-bench's features of the real sounds


@dataclass(frozen=True)
class SourceKey:
    """The dotted key of something that a user may name: `data.birds.tsv` is group "data", name "birds", key "tsv"."""

    group: str
    name: str
    key: str | None

    def kinds(self) -> dict[str, Any]:
        """The keys that this may be, and the kinds of their values."""
        return field_types(SourceSettings if self.group == "data" else EvalSetSettings)


def source_key(key: str) -> SourceKey | None:
    """Split the dotted key of a source or of a set to evaluate on; None for any other key."""
    group, *parts = key.split(".")
    if group not in ("data", "eval_data") or len(parts) not in (1, 2) or not parts[0]:
        return None
    if group == "data" and parts[0] in (*LISTS, *PRESETS):
        return None
    return SourceKey(group, parts[0], parts[1] if len(parts) == 2 else None)


def read_data(plain: Mapping[str, Any], problems: Problems) -> DataSettings:
    """Build the `data` group from plain values. Mistakes, and lists that name no source, go to `problems`."""
    named = {str(name): value for name, value in plain.items() if name not in (*LISTS, *PRESETS)}
    sources = {name: build_settings(SourceSettings, value, f"data.{name}.", problems) for name, value in named.items()}
    for name, source in sources.items():
        problems.check(partial(check_plain_path, "the name of a source of data", name, LONGEST_OF_A_SET))
        if source.tag is not None:
            problems.check(partial(check_plain_path, f"data.{name}.tag", source.tag, LONGEST_OF_A_SET))
        if source.output_subdir is not None:
            problems.check(partial(check_plain_path, f"data.{name}.output_subdir", source.output_subdir))
    lists = build_settings(DataSettings, {name: plain[name] for name in LISTS if name in plain}, "data.", problems)
    for key in LISTS:
        for name in getattr(lists, key):
            if name not in sources:
                problems.add(f"data.{key} names {name!r}, but data has no such source{nearest(name, sources)}")
            elif sources[name].tsv is None or sources[name].memmap_dir is None:
                problems.add(f"data.{key} names {name!r}, which has no store; give data.{name}.tsv=FILE and data.{name}.memmap_dir=FOLDER")
    return replace(lists, sources=sources)


def read_eval_data(plain: Mapping[str, Any], problems: Problems) -> dict[str, EvalSetSettings]:
    """Build the `eval_data` group from plain values. Mistakes go to `problems`."""
    for name in plain:
        problems.check(partial(check_plain_path, "the name of a set of eval_data", str(name), LONGEST_OF_A_SET))
    return {str(name): build_settings(EvalSetSettings, value, f"eval_data.{name}.", problems) for name, value in plain.items()}
