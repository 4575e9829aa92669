"""The folder of an extraction under way: whose it is, that one run works in it at a time, its columns, and what is done.

Rows go straight to their places in columns of full size; the progress logs say which stand there. So a killed extraction goes on
with any number of processes, and does only what is missing.
"""

import json
import logging
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mmaudio.base.errors import UserError, named
from mmaudio.extraction.progress import ProgressLog
from mmaudio.files.atomic import parse_json, remove_leftovers, text_hash, write_json
from mmaudio.files.locks import EXCLUSIVE, SHARED, try_lock
from mmaudio.files.tables import read_columns, write_table
from mmaudio.store.column_writer import ColumnWriter, column_bytes, column_path, files_of_column, reserve_columns
from mmaudio.store.format import LATENTS, NULL_TEXT, TEXT, TEXT_ROW, TEXT_SHAPE, TEXT_TABLE, VIDEO_FEATURES
from mmaudio.store.writer import StoreRecipe

log = logging.getLogger(__name__)
FORMAT_VERSION = 2
MOMENTS = "moments"  # of each row's latents, from which the statistics of the store are added up in the end
COLUMNS = (*LATENTS, *VIDEO_FEATURES, TEXT, TEXT_TABLE, TEXT_ROW, NULL_TEXT, MOMENTS)  # that may be under way
_TOLD_AS = {"inputs_hash": "the hash of ids, captions, files and cuts"}
_CHECKSUM = "checksum"  # of the other keys of a file
CLOSING, DONE = "closing", "done"
_FACTS = {"kept_hash": CLOSING, "rows_hash": DONE, "was_final": None}  # and the stage they come with
Columns = Mapping[str, tuple[tuple[int, ...], torch.dtype]]  # column → shape of the whole column and dtype
PATIENCE_S = 15.0  # the processes of a run that was killed need a moment to notice, and a shared folder to show a file


@dataclass(frozen=True)
class Manifest:
    """What has to be the same for rows to belong together."""

    recipe: StoreRecipe
    data_dir: Path
    num_inputs: int
    inputs_hash: str
    appends_to: str | None  # hash of the rows of the store that is added to
    unlisted: Sequence[str] = ()  # ids it was begun with that are in no table any more

    def content(self) -> dict[str, Any]:
        """As it is written."""
        inputs = {"data_dir": str(self.data_dir.resolve()), "num_inputs": self.num_inputs, "inputs_hash": self.inputs_hash}
        return {"format_version": FORMAT_VERSION, **self.recipe.as_recorded(), **inputs, "appends_to": self.appends_to}

    @property
    def job(self) -> str:
        """A hash that all processes of one extraction have, wherever their machines find the inputs."""
        return text_hash([json.dumps({key: value for key, value in self.content().items() if key != "data_dir"}, sort_keys=True)])

    def differences(self, found: Mapping[str, Any]) -> list[str]:
        """What differs between another manifest's content and this; weights that are not known yet are left out."""
        made = self.recipe.as_recorded()
        rest = {key: value for key, value in self.content().items() if key not in made and found.get(key) != value}
        if "inputs_hash" in rest and self.unlisted:
            rest = {key: value for key, value in rest.items() if key not in ("num_inputs", "inputs_hash")}
            unlisted = [f"the tables no longer list {named(self.unlisted)}, which it was begun with"]
        else:
            unlisted = []
        told = [f"{_TOLD_AS.get(key, key)} is {found.get(key)!r} there and {value!r} here" for key, value in rest.items()]
        return self.recipe.differences(found) + told + unlisted


class Workspace:
    """The folder of one extraction."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self.rows = ProgressLog(folder, "rows", len(self.row_columns()))
        self.captions = ProgressLog(folder, "captions", may_reject=False)

    @property
    def _manifest_path(self) -> Path:
        return self.folder / "manifest.json"

    @property
    def _stop_path(self) -> Path:
        return self.folder / "stop"

    def _own_files(self) -> list[Path]:
        """What an extraction leaves in its folder, but for the manifest and the lock."""
        columns = [path for name in COLUMNS for path in files_of_column(column_path(self.folder, name))]
        named = [path for path in (*columns, self.folder / "base.json", self._stop_path) if path.exists()]
        return [*named, *self.rows.files(), *self.captions.files()]

    def check(self) -> None:
        """Raises: UserError where the folder already holds the work of another extraction, naming what differs, or links to other files."""
        written = (*(column_path(self.folder, name) for name in COLUMNS), self._manifest_path, _inputs_path(self.folder), self._stop_path)
        links = [path for path in (*written, self.folder / "base.json", self.folder / "lock") if path.is_symlink()]
        if links:
            raise UserError(f"{links[0]} is a link, and work under way is written to files of its own; choose another --latent_dir")
        found = read_manifest(self.folder)
        if not found and self._own_files():
            found_there = f"{self.folder} holds {self._own_files()[0].name}, though no extraction is under way there"
            raise UserError(f"{found_there}; choose another --latent_dir")
        if not found or found.get("stage") == DONE:  # of what is done only the cleaning up is left
            return
        differing = self.manifest.differences(found)
        if differing:
            advice = "choose another --latent_dir, or remove that folder to start anew"
            raise UserError(f"{self.folder} holds the work of another extraction ({'; '.join(differing)}); {advice}")

    def check_joined(self) -> None:
        """Raises: UserError in a process whose inputs, weights or folder are not those of the process that wrote the manifest."""
        until = time.monotonic() + PATIENCE_S
        while not (found := read_manifest(self.folder)) and time.monotonic() < until:
            time.sleep(0.2)
        if not found:
            raise UserError(f"{self.folder} is not the folder that the first process works in; --latent_dir has to be one that all share")
        differing = [words for words in self.manifest.differences(found) if not words.startswith("data_dir ")]  # mounts may differ
        if differing:
            raise UserError(f"a process sees another extraction than the first one ({'; '.join(differing)}); run it again")

    @contextmanager
    def taken(self, *, is_first: bool) -> Iterator[None]:
        """Keep other runs out for the block; every process of this run takes part, the first one before the others.

        Raises: UserError where another run is at work here.
        """
        if is_first:
            self.folder.mkdir(parents=True, exist_ok=True)
        until = time.monotonic() + PATIENCE_S
        while (handle := self._try_lock(is_first)) is None:
            if time.monotonic() > until:
                raise UserError(f"another extraction is at work in {self.folder}; wait for it, or choose another --latent_dir")
            time.sleep(0.2)
        try:
            yield
        finally:
            os.close(handle)

    def _try_lock(self, is_first: bool) -> int | None:
        """The open lock, shared; taken by the first process when nobody else had it. None where it was not to be had."""
        path = self.folder / "lock"
        with suppress(FileNotFoundError):  # removed by the run that ended just now, or not to be seen here yet
            handle = os.open(path, os.O_RDWR | (os.O_CREAT if is_first else 0), 0o666)
            try:
                is_had = (not is_first or try_lock(handle, EXCLUSIVE)) and try_lock(handle, SHARED)
                if is_had and path.stat().st_ino == os.fstat(handle).st_ino:
                    return handle
            except BaseException:
                os.close(handle)
                raise
            os.close(handle)
        return None

    def start(self, inputs: Iterable[tuple[str, str]], num_captions: int) -> None:
        """Write the manifest if there is none yet, and reserve the disk that the columns take, for `num_captions` at most.

        Args:
            inputs: their ids and files, which are kept in mind: media that come or go do not change what the extraction is of.

        Raises: UserError as `check`, or where the disk has not enough room.
        """
        self.check()
        found = read_manifest(self.folder)
        if found and self.manifest.differences(found):  # of a run that ended
            self.clear()
        self._stop_path.unlink(missing_ok=True)
        if self.stage is not None:
            return
        write_table(_inputs_path(self.folder), ("id", "file"), inputs)
        self._write_manifest({})  # before the columns: what stands without it is not ours
        largest, free = self.reserve(num_captions), shutil.disk_usage(self.folder).free
        if free < largest:
            log.warning(
                "if an input fails, its gap is closed by copying a column at a time: up to %.1f GB of room, of which the disk has %.1f",
                *(num_bytes / 1e9 for num_bytes in (largest, free)),
            )

    def reserve(self, num_captions: int) -> int:
        """Give every column, where it is missing or shorter, its full size, `num_captions` at most. Returns: bytes of the largest.

        Raises: UserError where the disk has not enough room.
        """
        dtypes, shapes = self._dtypes(), self._row_shapes() | {TEXT_TABLE: (num_captions, *TEXT_SHAPE)}
        reserve_columns(self.folder, shapes, dtypes)
        return max(column_bytes(shape, dtypes[name]) for name, shape in shapes.items())

    def reserve_captions(self, num_captions: int) -> None:
        """Give the table of the text features of captions this size, where it is missing or shorter. Raises: as `reserve`."""
        reserve_columns(self.folder, {TEXT_TABLE: (num_captions, *TEXT_SHAPE)}, self._dtypes())

    def _row_shapes(self) -> dict[str, tuple[int, ...]]:
        row_shapes, num_rows = self.manifest.recipe.layout.row_shapes, self.manifest.num_inputs
        shapes: dict[str, tuple[int, ...]] = {name: (num_rows, *shape) for name, shape in row_shapes.items()}
        return shapes | {MOMENTS: (num_rows, 2, row_shapes["mean"][-1])}

    def _dtypes(self) -> dict[str, torch.dtype]:
        layout = self.manifest.recipe.layout
        return {**layout.dtypes, TEXT_TABLE: layout.text_dtype, MOMENTS: torch.float64}

    def open_rows(self) -> ColumnWriter:
        """The columns that are filled row by row, with a place for every input."""
        return ColumnWriter(self.folder, {name: shape for name, (shape, _) in self.row_columns().items()}, self._dtypes())

    def open_captions(self, num_captions: int) -> ColumnWriter:
        """The table of the text features of captions."""
        return ColumnWriter(self.folder, {name: shape for name, (shape, _) in self.caption_columns(num_captions).items()}, self._dtypes())

    def row_columns(self) -> Columns:
        """Whole shape and dtype of the columns that are filled row by row, each row at the place of its input."""
        return {name: (shape, self._dtypes()[name]) for name, shape in self._row_shapes().items() if name not in (TEXT, TEXT_ROW)}

    def caption_columns(self, num_captions: int) -> Columns:
        """As `row_columns`, of what is filled caption by caption."""
        return {TEXT_TABLE: ((num_captions, *TEXT_SHAPE), self._dtypes()[TEXT_TABLE])}

    @property
    def stage(self) -> str | None:
        """CLOSING once every row is done, when places may have moved together; DONE once the store stands; None before."""
        return read_manifest(self.folder).get("stage")

    @property
    def is_begun(self) -> bool:
        """Whether an extraction is under way here, or done."""
        return bool(read_manifest(self.folder))

    @property
    def was_final(self) -> bool:
        """Whether the making of the store may have begun: rows are final, or were before some of them were lost."""
        return self.stage == CLOSING or "was_final" in read_manifest(self.folder)

    @property
    def kept_hash(self) -> str | None:
        """The hash of which rows were kept when they became final; None before, and where the version before made them final."""
        return read_manifest(self.folder).get("kept_hash")

    def enter(self, stage: str, **facts: str) -> None:
        """Note a stage, atomically, with a few facts for whoever takes it up from there."""
        self._write_manifest({"stage": stage, **facts})

    def reopen(self, num_captions: int) -> None:
        """Go back to where rows are being done, each at the place of its input, and reserve the columns again."""
        self._write_manifest({"was_final": "yes"})
        self.reserve(num_captions)

    def _write_manifest(self, facts: Mapping[str, str]) -> None:
        _write_object(self._manifest_path, {**self.manifest.content(), **facts})

    def check_there(self) -> None:
        """Raises: UserError where the folder was taken away from under this extraction."""
        if not self._manifest_path.is_file():
            raise UserError(f"{self.folder} was removed or emptied while this extraction was at work in it; run it again to start anew")

    def stop(self) -> None:
        """Ask all processes of this run to do no more rows."""
        self._stop_path.touch()

    @property
    def is_stopped(self) -> bool:
        return self._stop_path.exists()

    def remember(self, name: str, content: Mapping[str, Any]) -> None:
        """Keep a few facts beside the manifest, atomically, with a checksum."""
        _write_object(self.folder / f"{name}.json", content)

    def remove(self) -> None:
        """Delete what this extraction put into the folder, and the folder if nothing else is in it."""
        self.clear()
        (self.folder / "lock").unlink(missing_ok=True)
        with suppress(OSError):  # somebody else's files are in it, or the next run's
            self.folder.rmdir()

    def clear_if_done(self) -> None:
        """Delete what an extraction left that was killed after its store stood."""
        if self.stage == DONE:
            with self.taken(is_first=True):
                self.remove()

    def clear(self) -> None:
        """Delete all but the lock; the manifest, which says whose it is, last."""
        for path in (self._manifest_path, _inputs_path(self.folder), self.folder / "base.json"):
            remove_leftovers(path)
        for path in (*self._own_files(), _inputs_path(self.folder), self._manifest_path):
            path.unlink(missing_ok=True)


def read_manifest(folder: Path) -> dict[str, Any]:
    """What a folder says of the extraction in it, the stage included; nothing where none is under way.

    Raises: UserError for a file that no extraction writes.
    """
    path = folder / "manifest.json"
    if not path.is_file():
        return {}
    content = _read_object(path)
    if content is None or not _is_manifest(content):
        raise UserError(f"{path} is not the manifest of an extraction; choose another --latent_dir")
    return content


def _is_manifest(content: Mapping[str, Any]) -> bool:
    """Whether what a file says can be believed, as far as it is not compared with this extraction (see `Manifest.differences`)."""
    if not content or not all(isinstance(content[key], str) for key in ("stage", *_FACTS) if key in content):
        return False
    stage = content.get("stage")
    if stage not in (None, CLOSING, DONE) or not all(_FACTS[key] == stage for key in _FACTS if key in content):
        return False
    return stage != DONE or ("rows_hash" in content and "inputs_hash" in content and type(content.get("format_version")) is int)


def _write_object(path: Path, content: Mapping[str, Any]) -> None:
    write_json(path, {**content, _CHECKSUM: _checksum(content)})


def _read_object(path: Path) -> dict[str, Any] | None:
    """What `_write_object` wrote, in this version or the one before, which wrote no checksum; None for anything else."""
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
        is_ours = isinstance(content, dict) and content.pop(_CHECKSUM, None) in (None, _checksum(content))
    except ValueError:
        return None
    return content if is_ours else None


def _checksum(content: Mapping[str, Any]) -> str:
    return text_hash([json.dumps(content, sort_keys=True)])


def _inputs_path(folder: Path) -> Path:
    return folder / "inputs.tsv"


def inputs_begun_with(folder: Path) -> dict[str, str] | None:
    """Id → file of the inputs that the extraction under way in a folder is of, in order; None if none is.

    The file is "" where it was begun by a version that did not keep it.
    """
    manifest, path = read_manifest(folder), _inputs_path(folder)
    if not manifest or manifest.get("stage") == DONE or not path.is_file():
        return None
    return dict(read_columns(path, ("id",), {"file": ""}))  # type: ignore[arg-type]  # rows of two fields


def recall_unfinished(folder: Path, name: str) -> dict[str, Any] | None:
    """What the extraction under way in a folder keeps under a name; None if none is, or it keeps nothing there.

    Raises: UserError for a file that no extraction writes.
    """
    path, manifest = folder / f"{name}.json", read_manifest(folder)
    if not manifest or manifest.get("stage") == DONE or not path.is_file():
        return None
    content = _read_object(path)
    if content is None:
        raise UserError(f"{path} is not what an extraction keeps there; put the file back as it was, or remove {folder} to start anew")
    return content
