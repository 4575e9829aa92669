"""Features on their way into a cache file: written every so often as parts, so that memory stays bounded and a kill costs little.

`<cache>/.parts/<judge>/<rank>-<number>.pth` holds what it was made of, the stamps of its clips and their features by stem.
"""

import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmaudio.base.errors import UserError
from mmaudio.base.files import atomic_path, sweep_below
from mmaudio.base.ownership import mark_archive_, move_aside
from mmaudio.base.tensor_files import read_tensor_file
from mmaudio.metrics.feature_marks import PARTS_FOLDER, features_mark, is_foreign
from mmaudio.metrics.judges.record import MadeOf

log = logging.getLogger(__name__)
MOST_CLIPS = 500  # of one part
MOST_SECONDS = 60.0  # between two parts


@dataclass(frozen=True)
class Part:
    """What one part holds; tensors are read by mmap."""

    made_of: MadeOf
    stamps: dict[str, str]
    features: dict[str, dict[str, Tensor]]  # stem → id → tensor


def parts_folder(cache_dir: Path, judge: str) -> Path:
    """Where the parts of a judge are."""
    return cache_dir / PARTS_FOLDER / judge


def read_parts(cache_dir: Path, judge: str, made_of: MadeOf) -> list[Part]:
    """The parts of a judge that were made as they would be now; others are removed, and what this program did not make is moved aside."""
    folder, parts = parts_folder(cache_dir, judge), []
    sweep_below(folder)
    for path in sorted(folder.glob("*.pth")):
        if is_foreign(path):
            move_aside(path)
            continue
        try:
            content: Any = read_tensor_file(path)
            part = Part(**content)
        except (UserError, TypeError):
            part = None
        if part is not None and part.made_of == made_of:
            parts.append(part)
        else:
            log.info("%s was made otherwise, or is torn, and is made anew", path)
            path.unlink()
    return parts


def remove_parts(cache_dir: Path, judge: str) -> None:
    """Remove the parts of a judge, and their folders once they are empty."""
    folder = parts_folder(cache_dir, judge)
    for path in folder.glob("*.pth"):
        if not is_foreign(path):
            path.unlink()
    for emptied in (folder, folder.parent):
        with suppress(OSError):  # it holds something else
            emptied.rmdir()


class PartWriter:
    """Collects the features of one process for one judge, and writes them out every 500 clips or minute."""

    def __init__(self, cache_dir: Path, judge: str, made_of: MadeOf, rank: int) -> None:
        self.folder, self.made_of, self.rank = parts_folder(cache_dir, judge), made_of, rank
        self.number = len(list(self.folder.glob(f"{rank:04d}-*.pth")))
        self._begin()

    def _begin(self) -> None:
        self.stamps: dict[str, str] = {}
        self.features: dict[str, dict[str, Tensor]] = {}
        self.began_s = time.monotonic()

    def add(self, clip_id: str, stamp: str, features: Mapping[str, Tensor]) -> None:
        """Take the features of a clip, stem → tensor; they are copied to the CPU."""
        self.stamps[clip_id] = stamp
        for stem, tensor in features.items():
            self.features.setdefault(stem, {})[clip_id] = tensor.detach().to("cpu", torch.float32, copy=True).contiguous()
        if len(self.stamps) >= MOST_CLIPS or time.monotonic() - self.began_s > MOST_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what was taken, if anything was."""
        if self.stamps:
            while (path := self.folder / f"{self.rank:04d}-{self.number:06d}.pth").exists():
                self.number += 1
            with atomic_path(path) as temporary:
                torch.save({"made_of": self.made_of, "stamps": self.stamps, "features": self.features}, temporary)
                mark_archive_(temporary, features_mark(path))
        self._begin()
