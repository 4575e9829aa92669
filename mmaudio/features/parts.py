"""Finished work of an extraction on disk: one part per block of inputs, and a manifest that says whose parts they are.

A block is `block_rows` successive inputs. Its part is written once, atomically, so a killed extraction goes on where it
was, with any number of processes, and parts of another run are never mixed in.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from mmaudio.base.errors import UserError
from mmaudio.base.files import atomic_path, write_json
from mmaudio.clips.rejects import Reject

FORMAT_VERSION = 1
MANIFEST_NAME = "manifest.json"


@dataclass(frozen=True)
class Manifest:
    """What has to be the same for parts to belong together."""

    kind: str
    mode: str
    backend: str
    dtype: str
    weights: Mapping[str, str] | None  # None: not known yet, and not compared
    duration_s: float
    normalised: bool
    block_rows: int
    num_inputs: int
    inputs_hash: str
    format_version: int = FORMAT_VERSION


@dataclass(frozen=True)
class Part:
    """The rows one block gave: ids and captions in order, stacked columns, features of its captions, and its rejects."""

    ids: list[str]
    captions: list[str]
    columns: dict[str, Tensor]
    texts: dict[str, Tensor]
    rejects: list[Reject]


class Parts:
    """The folder of parts of one extraction."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest

    @property
    def num_blocks(self) -> int:
        return -(-self.manifest.num_inputs // self.manifest.block_rows)

    def check(self) -> None:
        """Raises: UserError where the folder already holds parts of another run, naming what differs."""
        path = self.folder / MANIFEST_NAME
        if path.is_file():
            found, want = json.loads(path.read_text()), asdict(self.manifest)
            compared = [key for key in want if not (key == "weights" and want[key] is None)]
            differing = [f"{key} is {found.get(key)!r} there and {want[key]!r} here" for key in compared if found.get(key) != want[key]]
            if differing:
                advice = "choose another --latent_dir, or remove that folder to start anew"
                raise UserError(f"{self.folder} holds parts of another extraction ({'; '.join(differing)}); {advice}")

    def start(self) -> None:
        """Write the manifest if there is none yet."""
        if not (self.folder / MANIFEST_NAME).is_file():
            write_json(self.folder / MANIFEST_NAME, asdict(self.manifest))

    def _path(self, block: int) -> Path:
        return self.folder / f"part_{block:06d}.pth"

    def has(self, block: int) -> bool:
        return self._path(block).is_file()

    def save(self, block: int, part: Part) -> None:
        content = {**asdict(part), "rejects": [asdict(reject) for reject in part.rejects]}
        with atomic_path(self._path(block)) as temporary:
            torch.save(content, temporary)

    def load(self, block: int) -> Part:
        content = torch.load(self._path(block), weights_only=True)
        return Part(**{**content, "rejects": [Reject(**reject) for reject in content["rejects"]]})

    def __iter__(self) -> Iterator[Part]:
        """Every part in input order, one in memory at a time."""
        return (self.load(block) for block in range(self.num_blocks))

    def remove(self) -> None:
        """Delete what this extraction put into the folder, and the folder if nothing else is in it."""
        for path in (*self.folder.glob("part_*.pth"), self.folder / MANIFEST_NAME):
            path.unlink(missing_ok=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            shutil.rmtree(self.folder)
