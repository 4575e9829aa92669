"""Finished rows to a store: gaps of rejected inputs are closed, texts and statistics put in, and the columns handed over.

Nothing here holds more than a piece of a column. Killed at any moment, it is done again with the same outcome.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mmaudio.features.base_store import BaseStore
from mmaudio.features.workspace import MOMENTS
from mmaudio.store.column_files import ColumnFiles, close_gaps, column_bytes, column_path, row_bytes, shorten
from mmaudio.store.publish import Recipe, extend_in_place, new_record, put_in_place, write_sidecars
from mmaudio.store.schema import NULL_TEXT, TEXT, TEXT_ROW, TEXT_SHAPE, TEXT_TABLE, StoreRecord
from mmaudio.store.statistics import Moments

ROWS_AT_ONCE = 4096


@dataclass(frozen=True)
class Rows:
    """The rows that an extraction gives: what is called how, which of its inputs they are, and the captions it encoded."""

    ids: list[str]
    captions: list[str]
    is_kept: np.ndarray  # (inputs,) bool
    new_captions: list[str]  # of the table of text features, in order


def finish(work: Path, target: Path, recipe: Recipe, rows: Rows, null_text: Tensor, base: BaseStore | None) -> StoreRecord:
    """Make the store of the columns in `work`, or add them to the one that stands there. Returns its record.

    Args:
        work: folder of the columns, a place for every input, and the table of captions.
        target: folder of the store.
        null_text: text feature of the empty string, (77, 1024).
    Raises: UserError where the disk is full; the same command then goes on here.
    """
    _close(work, recipe, rows)
    _put_texts(work, recipe, rows, null_text, base.text_rows() if base is not None and recipe.layout.name == "compact" else {})
    moments = _moments(work, recipe, len(rows.ids), base)
    ids, captions = (base.ids + rows.ids, base.captions + rows.captions) if base else (rows.ids, rows.captions)
    record = new_record(recipe, ids, captions, moments)
    added = len(rows.ids), len(rows.new_captions)
    if base is None:
        put_in_place(target, work, recipe.layout, *added)
    else:
        extend_in_place(target, work, recipe.layout, (base.record.num_rows, len(set(base.captions))), added)
    write_sidecars(target, record, ids, captions, null_text)
    return record


def _close(work: Path, recipe: Recipe, rows: Rows) -> None:
    """Leave only the rows that are kept, in every column that was filled by place."""
    layout = recipe.layout
    num_inputs, channels = len(rows.is_kept), layout.row_shapes["mean"][-1]
    filled = {name: row_bytes((num_inputs, *shape), layout.dtypes[name]) for name, shape in layout.row_shapes.items()}
    filled = {name: size for name, size in filled.items() if name not in (TEXT, TEXT_ROW)}
    for name, size in (filled | {MOMENTS: row_bytes((num_inputs, 2, channels), torch.float64)}).items():
        close_gaps(column_path(work, name), size, rows.is_kept)


def _put_texts(work: Path, recipe: Recipe, rows: Rows, null_text: Tensor, known: dict[str, int]) -> None:
    """Write the columns that say which text each row has, by the table of captions that were encoded."""
    layout, num_rows, num_captions = recipe.layout, len(rows.ids), len(rows.new_captions)
    place = known | {caption: number for number, caption in enumerate(rows.new_captions, len(set(known.values())))}
    places = np.array([place[caption] for caption in rows.captions], np.int64)
    shapes = {TEXT_ROW: (num_rows,), NULL_TEXT: TEXT_SHAPE} if layout.name == "compact" else {TEXT: (num_rows, *TEXT_SHAPE)}
    for name, shape in (shapes | {TEXT_TABLE: (num_captions, *TEXT_SHAPE)}).items():
        shorten(column_path(work, name), column_bytes(shape, layout.text_dtype))
    with ColumnFiles.reserved(work, shapes, layout.dtypes) as files:
        if layout.name == "compact":
            files.write(TEXT_ROW, 0, torch.from_numpy(places.astype(np.int32)))
            files.write(NULL_TEXT, 0, null_text)
        else:
            features = np.memmap(column_path(work, TEXT_TABLE), np.float32, "r", shape=(num_captions, *TEXT_SHAPE))
            for number in places.tolist():
                files.append(TEXT, torch.from_numpy(features[number : number + 1].copy()))
        files.sync()


def _moments(work: Path, recipe: Recipe, num_rows: int, base: BaseStore | None) -> Moments:
    """Of the latents of all rows, the store's old ones included, from what each row's recorded."""
    moments, spec = Moments(), recipe.spec
    if base is not None:
        mean_c, std_c = (np.array(each) for each in (base.record.latent_mean, base.record.latent_std))
        moments = Moments.of(base.record.num_rows * spec.num_latents, mean_c, std_c)
    per_row = np.memmap(column_path(work, MOMENTS), np.float64, "r", shape=(num_rows, 2, spec.latent_channels))
    for start in range(0, num_rows, ROWS_AT_ONCE):
        moments.add_rows(np.array(per_row[start : start + ROWS_AT_ONCE]), spec.num_latents)
    return moments


def texts_needed(captions: Sequence[str], layout_name: str, base: BaseStore | None) -> list[str]:
    """The captions to encode, each once, in order: for a compact store those that its table does not have."""
    known = set(base.captions) if base is not None and layout_name == "compact" else set()
    return [caption for caption in dict.fromkeys(captions) if caption not in known]
