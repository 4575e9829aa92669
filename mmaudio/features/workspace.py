"""The folder of an extraction under way: whose it is, that one run works in it at a time, its columns, and what is done.

Rows go straight to their places in columns of full size; the ledgers say which stand there. So a killed extraction goes on
with any number of processes, and does only what is missing.
"""

import errno
import fcntl
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from mmaudio.base.errors import UserError
from mmaudio.base.files import write_json
from mmaudio.features.ledger import Ledger
from mmaudio.store.column_files import ColumnFiles, reserve_columns
from mmaudio.store.schema import TEXT_SHAPE, TEXT_TABLE, Layout

log = logging.getLogger(__name__)
FORMAT_VERSION = 2
MOMENTS = "moments"  # of each row's latents, from which the statistics of the store are added up in the end
CLOSING, DONE = "closing", "done"
PATIENCE_S = 15.0  # the processes of a run that was killed need a moment to notice
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@dataclass(frozen=True)
class Manifest:
    """What has to be the same for rows to belong together."""

    kind: str
    mode: str
    backend: str
    dtype: str
    weights: Mapping[str, str] | None  # None: not known yet, and not compared
    duration_s: float
    normalised: bool
    frame_rule: str
    resize: str
    layout: str
    column_dtypes: Mapping[str, str]
    data_dir: str
    num_inputs: int
    inputs_hash: str
    appends_to: str | None  # hash of the rows of the store that is added to
    format_version: int = FORMAT_VERSION


class Workspace:
    """The folder of one extraction."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self.rows = Ledger(folder, "rows")
        self.captions = Ledger(folder, "captions")

    @property
    def _manifest_path(self) -> Path:
        return self.folder / "manifest.json"

    def _read_manifest(self) -> dict[str, Any]:
        """What the folder says of itself, the stage included; nothing where no extraction is under way."""
        if not self._manifest_path.is_file():
            return {}
        content: dict[str, Any] = json.loads(self._manifest_path.read_text(encoding="utf-8"))
        return content

    def check(self) -> None:
        """Raises: UserError where the folder already holds the work of another extraction, naming what differs."""
        found, want = self._read_manifest(), asdict(self.manifest)
        if not found or found.get("stage") == DONE:  # of what is done only the cleaning up is left
            return
        compared = [key for key in want if not (key == "weights" and want[key] is None)]
        differing = [f"{key} is {found.get(key)!r} there and {want[key]!r} here" for key in compared if found.get(key) != want[key]]
        if differing:
            advice = "choose another --latent_dir, or remove that folder to start anew"
            raise UserError(f"{self.folder} holds parts of another extraction ({'; '.join(differing)}); {advice}")

    @contextmanager
    def taken(self, *, first: bool) -> Iterator[None]:
        """Keep other runs out for the block; every process of this run takes part, the first one before the others.

        Raises: UserError where another run is at work here.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            until = time.monotonic() + PATIENCE_S
            while not (_lock(handle, fcntl.LOCK_EX if first else fcntl.LOCK_SH) and _lock(handle, fcntl.LOCK_SH)):
                if time.monotonic() > until:
                    raise UserError(f"another extraction is at work in {self.folder}; wait for it, or choose another --latent_dir")
                time.sleep(0.2)
            yield
        finally:
            os.close(handle)

    def start(self, layout: Layout, num_captions: int) -> None:
        """Write the manifest if there is none yet, and reserve the disk that the columns take, for `num_captions` at most.

        Raises: UserError where the disk has not enough room.
        """
        found = self._read_manifest()
        is_ours = all(found.get(key) == value for key, value in asdict(self.manifest).items())
        if is_ours and self.stage is not None:
            return
        if not is_ours:
            self._remove_all_but_the_lock()  # what a run left that ended
        shapes = self._row_shapes(layout) | {TEXT_TABLE: (num_captions, *TEXT_SHAPE)}
        reserve_columns(self.folder, shapes, self._dtypes(layout))
        if not is_ours:
            write_json(self._manifest_path, asdict(self.manifest))

    def _row_shapes(self, layout: Layout) -> dict[str, tuple[int, ...]]:
        num_rows, channels = self.manifest.num_inputs, layout.row_shapes["mean"][-1]
        shapes: dict[str, tuple[int, ...]] = {name: (num_rows, *shape) for name, shape in layout.row_shapes.items()}
        return shapes | {MOMENTS: (num_rows, 2, channels)}

    def _dtypes(self, layout: Layout) -> dict[str, torch.dtype]:
        return {**layout.dtypes, TEXT_TABLE: layout.text_dtype, MOMENTS: torch.float64}

    def open_rows(self, layout: Layout) -> ColumnFiles:
        """The columns with a place for every input."""
        return ColumnFiles(self.folder, self._row_shapes(layout), self._dtypes(layout))

    def open_captions(self, layout: Layout, num_captions: int) -> ColumnFiles:
        """The table of the text features of captions."""
        return ColumnFiles(self.folder, {TEXT_TABLE: (num_captions, *TEXT_SHAPE)}, self._dtypes(layout))

    @property
    def stage(self) -> str | None:
        """CLOSING once every row is done, when places may have moved together; DONE once the store stands; None before."""
        return self._read_manifest().get("stage")

    def enter(self, stage: str) -> None:
        write_json(self._manifest_path, {**asdict(self.manifest), "stage": stage})

    def remember(self, name: str, content: Mapping[str, Any]) -> None:
        """Keep a few facts beside the manifest, atomically."""
        write_json(self.folder / f"{name}.json", content)

    def remove(self) -> None:
        """Delete what this extraction put into the folder, and the folder if nothing else is in it."""
        self._remove_all_but_the_lock()
        (self.folder / "lock").unlink(missing_ok=True)
        if not any(self.folder.iterdir()):
            self.folder.rmdir()

    def clear_if_done(self) -> None:
        """Delete what an extraction left that was killed after its store stood."""
        if self.stage == DONE:
            self.remove()

    def _remove_all_but_the_lock(self) -> None:
        for pattern in ("*.memmap", ".*.closed", "*.jsonl", ".*.tmp", "base.json", "manifest.json"):  # what says whose it is, last
            for path in self.folder.glob(pattern):
                path.unlink()


def recall_unfinished(folder: Path, name: str) -> Any:
    """What the extraction under way in a folder keeps under a name; None if none is, or it keeps nothing there."""
    manifest, path = folder / "manifest.json", folder / f"{name}.json"
    if not (manifest.is_file() and path.is_file()) or json.loads(manifest.read_text(encoding="utf-8")).get("stage") == DONE:
        return None
    return json.loads(path.read_text(encoding="utf-8"))


def _lock(handle: int, kind: int) -> bool:
    """Whether the lock was had. A file system without locks is gone on with, as if nobody else were there."""
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        log.warning("the file system of the latent_dir has no locks: see to it that one extraction works there at a time")
    return True
