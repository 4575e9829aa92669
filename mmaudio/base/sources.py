"""The `data` settings: named sources side by side, and the lists that say which of them train, validate and test."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from mmaudio.base.errors import Problems, nearest
from mmaudio.base.typed import field_types, read_group, setting

LISTS = ("train", "val", "test")
PRESETS = ("example_train", "mini_train")  # lists that the setting of this name puts in place of the three above


SOURCE_KEYS_WITHOUT_EFFECT = (
    *("tag", "gt_cache", "output_subdir"),
    *("root", "subset_name", "fps", "height", "width", "sample_duration_sec"),
)


@dataclass(frozen=True)
class SourceSettings:
    """One source of data: a store (tsv and memmap_dir), or the folder of the videos themselves (root)."""

    kind: Literal["video", "audio"] | None = setting(None)  # None: what the store says
    tsv: str | None = setting(None)
    memmap_dir: str | None = setting(None)
    repeat: int = setting(1, low=1)  # times each row counts in the training set
    # what follows is kept for published configurations; see SOURCE_KEYS_WITHOUT_EFFECT
    tag: str | None = setting(None, defines_run=False)
    gt_cache: str | None = setting(None, defines_run=False)
    output_subdir: str | None = setting(None, defines_run=False)
    root: str | None = setting(None, defines_run=False)
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
    sources: Mapping[str, SourceSettings] = field(default_factory=dict)
    train: tuple[str, ...] = setting(())
    val: tuple[str, ...] = setting(())
    test: tuple[str, ...] = setting((), defines_run=False)

    def chosen(self, *lists: str) -> dict[str, SourceSettings]:
        """The sources that the lists of these names hold, each once, in order."""
        return {name: self.sources[name] for key in lists for name in getattr(self, key) if name in self.sources}


def source_key(key: str) -> tuple[str, str | None] | None:
    """Split the dotted key of a source, `data.birds.tsv` → ("birds", "tsv"); None for any other key."""
    parts = key.split(".")
    if parts[0] != "data" or len(parts) not in (2, 3) or parts[1] in (*LISTS, *PRESETS) or not parts[1]:
        return None
    return parts[1], parts[2] if len(parts) == 3 else None


def read_data(plain: Mapping[str, Any], problems: Problems) -> DataSettings:
    """Build the `data` group from plain values. Mistakes, and lists that name no source, go to `problems`."""
    named = {str(name): value for name, value in plain.items() if name not in (*LISTS, *PRESETS)}
    sources = {name: read_group(SourceSettings, value, f"data.{name}.", problems) for name, value in named.items()}
    lists = read_group(DataSettings, {name: plain[name] for name in LISTS if name in plain}, "data.", problems)
    for key in LISTS:
        for name in getattr(lists, key):
            if name not in sources:
                problems.add(f"data.{key} names {name!r}, but data has no such source{nearest(name, sources)}")
            elif sources[name].tsv is None or sources[name].memmap_dir is None:
                problems.add(f"data.{key} names {name!r}, which has no store; give data.{name}.tsv=FILE and data.{name}.memmap_dir=FOLDER")
    return replace(lists, sources=sources)


def source_fields() -> dict[str, Any]:
    """The keys of one source and their kinds."""
    return field_types(SourceSettings)
