"""Captions encoded, gaps closed, columns handed over.

Nothing here holds more than a piece of a column. Killed at any moment, it is done again with the same outcome.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mmaudio.base.errors import UserError
from mmaudio.base.logs import progress
from mmaudio.distributed.ranks import Ranks
from mmaudio.extraction.job import Job
from mmaudio.extraction.progress import MISSING, Progress
from mmaudio.extraction.reading import num_at_once
from mmaudio.extraction.row_writer import RowWriter
from mmaudio.extraction.store_target import StoreToExtend
from mmaudio.extraction.workspace import MOMENTS, Workspace
from mmaudio.features.backend import Backend
from mmaudio.files.locks import EXCLUSIVE, try_lock
from mmaudio.store.column_writer import ColumnWriter, NotFiniteError, close_gaps, column_bytes, column_path, row_bytes, shorten
from mmaudio.store.columns import Column
from mmaudio.store.format import NULL_TEXT, TEXT, TEXT_ROW, TEXT_SHAPE, TEXT_TABLE, StoreRecord
from mmaudio.store.reader import read_store_record
from mmaudio.store.statistics import Moments
from mmaudio.store.writer import Sidecars, StoreRecipe, extend_in_place, move_into_store, new_record

# ---- Captions to the table of their text features, each distinct one once

CAPTIONS_AT_ONCE = 64  # on a GPU


def texts_needed(captions: Sequence[str], layout_name: str, base: StoreToExtend | None) -> list[str]:
    """The captions to encode, each once, in order: for a compact store those that its table does not have."""
    known = set(base.captions) if base is not None and layout_name == "compact" else set()
    return [caption for caption in dict.fromkeys(captions) if caption not in known]


def extract_captions(job: Job, captions: Sequence[str], done: Progress, backend: Backend, ranks: Ranks) -> None:
    """Encode the captions that are missing, every world_size-th batch of them here.

    Raises: UserError for a caption whose feature is not finite in the dtype it is to be stored in.
    """
    at_once = num_at_once(backend, CAPTIONS_AT_ONCE)
    missing = [number for number, state in enumerate(done.states) if state == MISSING]
    batches = [missing[start : start + at_once] for start in range(0, len(missing), at_once)][ranks.rank :: ranks.world_size]
    if not batches:
        return
    with job.work.open_captions(len(captions)) as files, RowWriter(files, job.work.captions) as recorder:
        for batch in progress(batches, len(batches), "extract captions", ranks.rank):
            for number, feature in zip(batch, backend.encode_text([captions[number] for number in batch]).cpu(), strict=True):
                try:
                    recorder.keep(number, {TEXT_TABLE: feature})
                except NotFiniteError as error:
                    advice = "another --column_dtype of text may hold it"
                    raise UserError(f"the text feature of caption {captions[number]!r}: {error}; {advice}") from None


# ---- Finished rows to a store

ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class FinishedRows:
    """The rows that an extraction gives: what is called how, which of its inputs they are, and the captions it encoded."""

    ids: list[str]
    captions: list[str]
    is_kept: np.ndarray  # (inputs,) bool
    new_captions: list[str]  # of the table of text features, in order


def finish_store(
    work: Workspace, target: Path, rows: FinishedRows, null_text: Tensor, base: StoreToExtend | None, *, aside: bool = False
) -> StoreRecord:
    """Make the store of the columns in `work`, or add them to the one that stands there. Returns its record.

    Args:
        target: folder of the store.
        null_text: text feature of the empty string, (77, 1024).
        aside: move what stands there aside instead of replacing it.
    Raises: UserError where the disk is full, or the store that is added to was changed meanwhile; nothing done is lost.
    """
    recipe = work.manifest.recipe
    for name, (shape, dtype) in work.row_columns().items():
        close_gaps(column_path(work.folder, name), row_bytes(shape, dtype), rows.is_kept)
    _put_texts(work.folder, recipe, rows, null_text, base)
    moments = _moments(work.folder, recipe, len(rows.ids), base)
    ids, captions = (base.ids + rows.ids, base.captions + rows.captions) if base else (rows.ids, rows.captions)
    record = new_record(recipe, ids, captions, moments, null_text)
    if base is not None and recipe.layout.name == "compact":  # which keeps the one it has
        record = replace(record, null_text_hash=base.record.null_text_hash)
    beside_it = Sidecars.of(record, ids, captions, null_text)
    added = len(rows.ids), len(rows.new_captions)
    if base is None:
        move_into_store(target, work.folder, recipe.layout, added, beside_it, aside=aside)
        return beside_it.record
    with _alone_with(base, beside_it.record):
        extend_in_place(target, work.folder, recipe.layout, (base.record.num_rows, base.num_captions), added)
        beside_it.write(target)
    return beside_it.record


@contextmanager
def _alone_with(base: StoreToExtend, record: StoreRecord) -> Iterator[None]:
    """Let nobody else add to a store for the block. Raises: UserError if somebody is, or has since this was planned."""
    handle = os.open(base.folder, os.O_RDONLY)
    try:
        found = read_store_record(base.folder)
        is_ours = found is not None and found.rows_hash in (base.record.rows_hash, record.rows_hash)
        if not try_lock(handle, EXCLUSIVE) or not is_ours:
            raise UserError(f"store {base.folder} was changed while rows were being added; remove the --latent_dir and add them anew")
        yield
    finally:
        os.close(handle)


def _put_texts(folder: Path, recipe: StoreRecipe, rows: FinishedRows, null_text: Tensor, base: StoreToExtend | None) -> None:
    """Write the columns that say which text each row has, by the table of captions that were encoded."""
    layout, num_rows, num_captions = recipe.layout, len(rows.ids), len(rows.new_captions)
    is_compact = layout.name == "compact"
    known, num_known = (base.text_rows(), base.num_captions) if base is not None and is_compact else ({}, 0)
    place = known | {caption: number for number, caption in enumerate(rows.new_captions, num_known)}
    places = np.array([place[caption] for caption in rows.captions], np.int64)
    table_shape = (num_captions, *TEXT_SHAPE)
    shapes = {TEXT_ROW: (num_rows,), NULL_TEXT: TEXT_SHAPE} if is_compact else {TEXT: (num_rows, *TEXT_SHAPE)}
    for name, shape in (shapes | {TEXT_TABLE: table_shape}).items():
        shorten(column_path(folder, name), column_bytes(shape, layout.text_dtype))
    with ColumnWriter.reserved(folder, shapes, layout.dtypes) as files:
        if is_compact:
            files.write(TEXT_ROW, 0, torch.from_numpy(places.astype(np.int32)))
            files.write(NULL_TEXT, 0, null_text)
        else:
            table = Column(column_path(folder, TEXT_TABLE), table_shape, layout.text_dtype)
            for number in places.tolist():
                files.append(TEXT, table.slice(number, number + 1))
        files.sync()


def _moments(folder: Path, recipe: StoreRecipe, num_rows: int, base: StoreToExtend | None) -> Moments:
    """Of the latents of all rows, the store's old ones included, from what each row's recorded."""
    moments, spec = Moments(), recipe.spec
    if base is not None:
        mean_c, std_c = (np.array(each) for each in (base.record.latent_mean, base.record.latent_std))
        moments = Moments.of(base.record.num_rows * spec.num_latents, mean_c, std_c)
    column = Column(column_path(folder, MOMENTS), (num_rows, 2, spec.latent_channels), torch.float64)
    for start in range(0, num_rows, ROWS_AT_ONCE):
        moments.add_rows(column.slice(start, min(start + ROWS_AT_ONCE, num_rows)).numpy(), spec.num_latents)
    return moments
