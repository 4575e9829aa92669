"""What a training checkpoint holds, and what the files of a run are called (training.md section 9)."""

import glob
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmaudio.files.atomic import parse_json
from mmaudio.files.checksums import content_id

if TYPE_CHECKING:
    from torch import Tensor

FORMAT_VERSION = 1
CHECKSUMS = "checksums"  # in a record beside a file: which files it may lie beside


@dataclass(frozen=True)
class RunState:
    """A run after `steps_done` finished iterations. Ours and the published system's files hold the same entries."""

    steps_done: int
    weights: "dict[str, Tensor]"
    optimizer: dict[str, Any]  # AdamW's state, by index among the trained parameters in manifest order
    scheduler: dict[str, Any]
    ema: dict[str, Any] | None  # None where the run keeps no averages
    extra: dict[str, Any] = field(default_factory=dict)  # what else a task keeps, by name; published files have nothing of it

    def entries(self) -> dict[str, Any]:
        """The dictionary that is saved. `it` counts finished iterations."""
        return {
            "it": self.steps_done,
            "weights": self.weights,
            "optimizer": self.optimizer,
            "scheduler": self.scheduler,
            "ema": self.ema,
            "extra": self.extra,
        }


@dataclass(frozen=True)
class WeightsRecord:
    """What tensors do not say of themselves; kept beside the file or in it, so that generating needs no options."""

    variant: str
    mode: str
    duration_s: float
    backend: str
    step: int
    exp_id: str
    format_version: int = FORMAT_VERSION
    final_cond: str = "global"  # what modulates the final layer
    dropped: tuple[str, ...] = ()  # conditions the run did without
    freeze: tuple[str, ...] = ()  # patterns of the parameters the run did not train

    @classmethod
    def from_plain(cls, content: Mapping[str, Any]) -> "WeightsRecord":
        """Read a record from JSON values: what it does not say is at its default, what is not of a record is left out.

        Raises: KeyError where it lacks what has no default, TypeError where `content` is no mapping.
        """
        given = {field.name: content[field.name] for field in fields(cls) if field.name in content or field.default is MISSING}
        values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
        return cls(**values)


def as_strings(content: Mapping[str, Any]) -> dict[str, str]:
    """JSON values as strings, all that the header of a safetensors file can hold: text as it is, the rest as JSON."""
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in content.items()}


def record_from_strings(strings: Mapping[str, str]) -> dict[str, Any]:
    """The JSON values of a record among strings that `as_strings` made. Raises: ValueError for a string that is none."""
    known = {field.name: field.type for field in fields(WeightsRecord)}
    return {name: text if known[name] is str else parse_json(text) for name, text in strings.items() if name in known}


def record_beside(path: Path) -> Path:
    """Where the record of a weights file or checkpoint lies."""
    return path.with_name(f"{path.name}.json")


def checksums_beside(new: Path, path: Path) -> list[str]:
    """What the record of `new` says of the files that it may lie beside: that one, and the one that is at `path` now.

    A record is written before its file takes its place, so that after a kill between the two it lies beside the older one.
    """
    return [content_id(each) for each in (new, path) if each.is_file()]


@dataclass(frozen=True)
class RunFiles:
    """The files of one run. `exp_id` may hold anything a file name may, "last" included."""

    folder: Path
    exp_id: str

    @property
    def weights_last(self) -> Path:
        return self.folder / f"{self.exp_id}_last.pth"

    @property
    def weights_shadow(self) -> Path:
        return self.folder / f"{self.exp_id}_shadow.pth"

    @property
    def weights_best(self) -> Path:
        return self.folder / f"{self.exp_id}_best.pth"

    @property
    def checkpoint_last(self) -> Path:
        return self.folder / f"{self.exp_id}_ckpt_last.pth"

    @property
    def checkpoint_shadow(self) -> Path:
        return self.folder / f"{self.exp_id}_ckpt_shadow.pth"

    @property
    def ema_final(self) -> Path:
        return self.folder / f"{self.exp_id}_ema_final.pth"

    @property
    def ema_folder(self) -> Path:
        return self.folder / "ema_ckpts"

    def weights_copy(self, steps_done: int) -> Path:
        return self.folder / f"{self.exp_id}_{steps_done}.pth"

    def checkpoint_copy(self, steps_done: int) -> Path:
        return self.folder / f"{self.exp_id}_ckpt_{steps_done}.pth"

    def checkpoint_copies(self) -> list[Path]:
        """The training checkpoints that have their step's own name, by step."""
        named = re.compile(re.escape(self.exp_id) + r"_ckpt_(\d+)\.pth")
        found = ((path, named.fullmatch(path.name)) for path in self.folder.glob("*.pth"))
        steps = sorted((int(match[1]), path) for path, match in found if match)
        return [path for _, path in steps]

    def patterns(self) -> tuple[str, ...]:
        """What all of these, and their records, are called in the folder: patterns of names."""
        name = glob.escape(self.exp_id)
        files = [f"{name}_{ending}.pth" for ending in ("last", "shadow", "best", "ema_final", "ckpt_*")]
        return (self.ema_folder.name, *files, *(f"{file}.json" for file in files))

    def checkpoints(self) -> Iterator[Path]:
        """Every training checkpoint there is: last, shadow, then the copies."""
        found = [self.checkpoint_last, self.checkpoint_shadow, *self.checkpoint_copies()]
        return (path for path in found if path.is_file())
