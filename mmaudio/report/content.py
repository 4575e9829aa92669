"""What a page shows, as plain values: the caller fills these in, the page only lays them out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Better = Literal["higher", "lower", ""]  # "": neither, it is there to compare with


@dataclass(frozen=True)
class Value:
    """A metric of one column. `value` None means that it cannot be told; then `reason` says why."""

    value: float | None
    interval: tuple[float, float] | None = None
    unit: str = ""
    better: Better = ""
    num: int | None = None  # clips it rests on
    reason: str = ""


@dataclass(frozen=True)
class Clips:
    """How many clips a column's numbers rest on, and how many are left out of them. None: not told."""

    paired: int
    reference: int
    failed: int = 0
    missing: int | None = None


@dataclass(frozen=True)
class ScoreColumn:
    """The scores of one set of samples: a column of the table of metrics, and a sound in the samples."""

    label: str
    values: Mapping[str, Value]
    clips: Clips
    protocol: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PageSound:
    """One sound of a sample. `file` None means that there is none to play; then `lack` says why."""

    label: str
    file: Path | None
    onsets_s: Sequence[float] = ()
    numbers: Mapping[str, float | None] = field(default_factory=dict)  # per-clip metrics
    caption: str = ""
    lack: str = ""


@dataclass(frozen=True)
class PageClip:
    """One clip: the sounds to switch between, in the order of the keys that switch, and the picture they belong to.

    `duration_s` is how much of each sound was compared, which is what is shown; None: all of it.
    """

    id: str
    sounds: Sequence[PageSound]
    picture: Path | None = None
    duration_s: float | None = None
    lack: str = ""  # why there is no picture, where there should be one

    @property
    def captions(self) -> dict[str, list[str]]:
        """Caption → labels of the sounds that were made for it."""
        told: dict[str, list[str]] = {}
        for sound in self.sounds:
            if sound.caption:
                told.setdefault(sound.caption, []).append(sound.label)
        return told


@dataclass(frozen=True)
class RunRecord:
    """What a run left of its training: JSON lines of its numbers, and the JSON of its sweep over averages."""

    label: str
    metrics_log: Path | None = None
    sweep: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Report:
    """A whole page. `samples` are taken one by one; `sound_labels` are all their sounds' labels, in the order of the keys."""

    title: str
    subtitle: str = ""
    runs: Sequence[RunRecord] = ()
    columns: Sequence[ScoreColumn] = ()
    samples: Iterable[PageClip] = ()
    sound_labels: Sequence[str] = ()
    notes: Sequence[str] = ()  # what was found and could not be used


@dataclass(frozen=True)
class Written:
    """A page that stands: its index.html, the samples shown, and what they lack (one line for each file)."""

    index: Path
    num_samples: int
    num_bytes: int
    lacks: Sequence[str]
