"""Writes a store: streams blocks of features into columns laid out beforehand, in memory that does not grow with the data."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from mmaudio.base.errors import UserError
from mmaudio.base.specs import AudioSpec
from mmaudio.store import schema
from mmaudio.store.column_files import ColumnFiles
from mmaudio.store.publish import Recipe, Sidecars, new_record, swapped_in
from mmaudio.store.schema import NULL_TEXT, TEXT, TEXT_ROW, TEXT_TABLE, StoreRecord
from mmaudio.store.statistics import Moments

# What of a record is of the store, and not of the making of its rows
OF_THE_STORE = ("format_version", "layout", "dtypes", "num_rows", "latent_mean", "latent_std", "rows_hash", "null_text_hash", "mark")
Index = Sequence[tuple[str, str]]  # (id, caption) of every row, in order


@dataclass(frozen=True)
class Block:
    """Consecutive rows of a store: `columns` float32 (rows, …) by name, `texts` the feature (77, 1024) of each caption."""

    ids: list[str]
    captions: list[str]
    columns: dict[str, Tensor]
    texts: dict[str, Tensor]


def write_store(
    output_dir: Path,
    name: str,
    *,
    kind: str,
    layout: str,
    spec: AudioSpec,
    backend: str,
    index: Index,
    blocks: Iterable[Block],
    null_text: Tensor,
    dtypes: Mapping[str, torch.dtype] | None = None,
    weights: Mapping[str, str] | None = None,
    frame_rule: str = "exact",
    made_as: StoreRecord | None = None,
    is_encoders: bool = False,
    aside: bool = False,
) -> StoreRecord:
    """Write `<name>/`, `<name>.tsv` and `<name>.json` in `output_dir`, in place of this program's store of that name.

    A kill leaves the old store, the new one, or one that says it is unfinished and is refused; never rows under wrong captions.

    Args:
        kind: `video` or `audio`.
        layout, dtypes: as `layout_of` takes them.
        index: id and caption of every row, in order; ids are unique.
        blocks: the rows, in the order of `index`.
        null_text: text feature of the empty string, (77, 1024); beside the store in the published layout.
        weights: encoder -> checksum of its weights.
        frame_rule: how frames were picked, `exact` or `ffmpeg`.
        is_encoders: the null text is known to be what the encoder of the captions made of the empty string.
        made_as: the record of another store of these rows; all that it says of how they were made is kept.
        aside: move what stands there aside instead of replacing it, whatever it is.
    Raises: UserError where `index` is empty, something else stands there, or the disk is too small. ValueError for blocks that are
        not the rows of `index`, or hold wrong shapes or values that are not finite.
    """
    folder = output_dir / name
    if not index:
        raise UserError(f"store {folder} would hold no rows: no input was accepted; the reasons are in the table of rejects")
    if len({row_id for row_id, _ in index}) != len(index):
        raise ValueError(f"the index of store {folder} names an id twice")
    columns = schema.layout_of(layout, kind, spec, dtypes)
    recipe = Recipe(kind, spec, backend, columns, dict(weights or {}), frame_rule)
    shapes = columns.shapes(len(index), len({caption for _, caption in index}))
    moments = Moments()
    ids, captions = [row_id for row_id, _ in index], [caption for _, caption in index]

    def sidecars() -> Sidecars:
        record = new_record(recipe, ids, captions, moments, null_text if is_encoders else None)
        if made_as is not None:
            record = replace(made_as, **{name: getattr(record, name) for name in OF_THE_STORE})
        return Sidecars.of(record, ids, captions, null_text)

    with swapped_in(folder, sidecars, aside=aside) as temporary, ColumnFiles.new(temporary, shapes, columns.dtypes) as files:
        _stream(files, tuple(schema.columns(kind, spec)), layout, index, blocks, moments)
        if layout == "compact":
            files.write(NULL_TEXT, 0, null_text)
    made = sidecars()
    made.write(folder)
    return made.record


def _stream(files: ColumnFiles, names: tuple[str, ...], layout: str, index: Index, blocks: Iterable[Block], moments: Moments) -> None:
    """Append every block, checking that together they are the rows of `index`."""
    num_done = 0
    text_rows: dict[str, int] = {}
    for block in blocks:
        _check_block(block, names, index[num_done : num_done + len(block.ids)])
        for name in names:
            files.append(name, block.columns[name])
        moments.add(block.columns["mean"])
        if layout == "published":
            files.append(TEXT, torch.stack([block.texts[caption] for caption in block.captions]))
        else:
            for caption in block.captions:
                if caption not in text_rows:
                    text_rows[caption] = len(text_rows)
                    files.append(TEXT_TABLE, block.texts[caption][None])
            files.append(TEXT_ROW, torch.tensor([text_rows[caption] for caption in block.captions], dtype=torch.int32))
        num_done += len(block.ids)
    if num_done != len(index):
        raise ValueError(f"blocks held {num_done} rows and the index {len(index)}")


def _check_block(block: Block, names: tuple[str, ...], index: Index) -> None:
    """Raises: ValueError unless the block is these rows, with these columns and the text of each caption."""
    if not block.ids or list(zip(block.ids, block.captions, strict=True)) != [tuple(row) for row in index]:
        raise ValueError(f"a block of {len(block.ids)} rows from {block.ids[:1]} on is not what the index has at its place")
    if set(block.columns) != set(names):
        raise ValueError(f"a block has columns {sorted(block.columns)}; want {sorted(names)}")
    uneven = [name for name in names if len(block.columns[name]) != len(block.ids)]
    if uneven:
        raise ValueError(f"columns {uneven} of a block have another number of rows than its {len(block.ids)} ids")
    missing = [caption for caption in block.captions if caption not in block.texts]
    if missing:
        raise ValueError(f"a block has no text feature of its caption {missing[0]!r}")
