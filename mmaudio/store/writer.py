"""Writes a store: streams blocks of features into columns laid out beforehand, in memory that does not grow with the data."""

import importlib.metadata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import mmaudio
from mmaudio.base.errors import UserError
from mmaudio.base.files import atomic_folder, write_json
from mmaudio.base.null_text import write_null_text
from mmaudio.base.specs import AudioSpec
from mmaudio.base.tables import write_table
from mmaudio.store import schema
from mmaudio.store.columns import ColumnFiles
from mmaudio.store.schema import NULL_TEXT, TEXT, TEXT_ROW, TEXT_SHAPE, TEXT_TABLE, StoreRecord
from mmaudio.store.statistics import Moments

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
    feature_dtype: torch.dtype = torch.bfloat16,
    weights: dict[str, str] | None = None,
    frame_rule: str = "exact",
) -> StoreRecord:
    """Write `<name>/`, `<name>.tsv` and `<name>.json` in `output_dir`, in place of what was there under that name.

    A kill leaves the old store, the new one, or a store without table that is refused; never rows under wrong captions.

    Args:
        kind: `video` or `audio`.
        layout: `compact`, or `published` (all columns float32, one text feature a row).
        index: id and caption of every row, in order; ids are unique.
        blocks: the rows, in the order of `index`.
        null_text: text feature of the empty string, (77, 1024); beside the store in the published layout.
        feature_dtype: dtype of features and text in the compact layout; latents are always float32.
        weights: encoder -> checksum of its weights.
        frame_rule: how frames were picked, `exact` or `ffmpeg`.
    Raises: UserError where `index` is empty or the disk too small. ValueError for blocks that are not the rows of `index`
        or hold wrong shapes or values that are not finite.
    """
    folder = output_dir / name
    if not index:
        raise UserError(f"store {folder} would hold no rows: no input was accepted; the reasons are in the table of rejects")
    if len({row_id for row_id, _ in index}) != len(index):
        raise ValueError(f"the index of store {folder} names an id twice")
    shapes, dtypes = _layout(kind, layout, spec, index, feature_dtype)
    moments = Moments()
    with atomic_folder(folder, schema.STORE_FILES) as temporary:
        with ColumnFiles(temporary, shapes, dtypes) as files:
            _stream(files, tuple(schema.columns(kind, spec)), layout, index, blocks, moments)
            if layout == "compact":
                files.append(NULL_TEXT, null_text)
        # Gone before the swap: new rows must never stand beside the old table.
        for beside in (schema.record_path, schema.table_path, schema.null_text_path):
            beside(folder).unlink(missing_ok=True)
    if layout == "published":
        write_null_text(schema.null_text_path(folder), null_text)
    record = _record(kind, layout, spec, backend, index, dtypes, moments, dict(weights or {}), frame_rule)
    write_table(schema.table_path(folder), ("id", schema.CAPTION_COLUMNS[kind]), index)
    write_json(schema.record_path(folder), record.to_json())
    return record


def _record(
    kind: str,
    layout: str,
    spec: AudioSpec,
    backend: str,
    index: Index,
    dtypes: Mapping[str, torch.dtype],
    moments: Moments,
    weights: dict[str, str],
    frame_rule: str,
) -> StoreRecord:
    mean_c, std_c = moments.result()
    return StoreRecord(
        format_version=schema.FORMAT_VERSION,
        kind=kind,
        layout=layout,
        mode=spec.mode,
        backend=backend,
        duration_s=spec.duration_s,
        num_rows=len(index),
        dtypes={column: schema.dtype_name(dtype) for column, dtype in dtypes.items()},
        latent_mean=mean_c.tolist(),
        latent_std=std_c.tolist(),
        rows_hash=schema.hash_rows([row_id for row_id, _ in index], [caption for _, caption in index]),
        weights=weights,
        versions={"mmaudio": mmaudio.__version__, "torch": torch.__version__, "tensordict": importlib.metadata.version("tensordict")},
        frame_rule=frame_rule,
    )


def _layout(
    kind: str, layout: str, spec: AudioSpec, index: Index, feature_dtype: torch.dtype
) -> tuple[dict[str, tuple[int, ...]], dict[str, torch.dtype]]:
    """Shape and dtype of every whole column, in the order of meta.json."""
    if layout not in schema.LAYOUTS:
        raise ValueError(f"layout is {layout!r}; want one of {', '.join(schema.LAYOUTS)}")
    num_rows = len(index)
    shapes: dict[str, tuple[int, ...]] = {column: (num_rows, *shape) for column, shape in schema.columns(kind, spec).items()}
    if layout == "published":
        shapes[TEXT] = (num_rows, *TEXT_SHAPE)
        return shapes, dict.fromkeys(shapes, torch.float32)
    shapes[TEXT_TABLE] = (len({caption for _, caption in index}), *TEXT_SHAPE)
    shapes[TEXT_ROW] = (num_rows,)
    shapes[NULL_TEXT] = TEXT_SHAPE
    dtypes = dict.fromkeys(shapes, feature_dtype)
    return shapes, dtypes | dict.fromkeys(schema.LATENTS, torch.float32) | {TEXT_ROW: torch.int32}


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
