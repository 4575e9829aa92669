"""One layout into the other; what a store without a record holds."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmaudio.base.errors import UserError
from mmaudio.base.logs import progress
from mmaudio.base.specs import CLIP_FPS, DEFAULT_DURATION_S, LATENT_DOWNSAMPLING, MIN_DURATION_S, MODES, SYNC_FPS, AudioSpec
from mmaudio.files.atomic import check_writable
from mmaudio.files.ownership import at_end_of_links
from mmaudio.files.tensor_files import all_finite, finite_rows
from mmaudio.store import format as schema
from mmaudio.store.compare import TextsOfCaptions
from mmaudio.store.format import TEXT, TEXT_TABLE, VIDEO_FEATURES, Layout, StoreRecord
from mmaudio.store.reader import Store
from mmaudio.store.replacing import beside, standing, what_is_lost
from mmaudio.store.verify import BLOCK_BYTES
from mmaudio.store.writer import OF_THE_STORE, Block, write_store


def check_output(store: Store, tables: list[Path], output: Path, *, replace: bool = False) -> bool:
    """Whether what stands at `output` has to be moved aside for the converted store.

    Args:
        tables: what the store, or the new one, is made from, beside the store's own files.
        replace: that what would be lost there may be moved aside.
    Raises: UserError if `output` cannot be written, or would replace, or lie in, the store or what it is made from, or other things.
    """
    check_writable(output.parent)
    source, target = at_end_of_links(store.memmap_dir), at_end_of_links(output)
    if target == source or source in target.parents:
        raise UserError(f"the output {output} is the store itself or lies in it; name another folder")
    read = {at_end_of_links(path) for path in (*tables, *beside(store.memmap_dir).values())}
    for path in beside(output).values():
        if at_end_of_links(path) in read:
            raise UserError(f"the output {output} would replace {path}, which it is made from; name another folder")
    rows, place = set(zip(store.ids, store.captions, strict=True)), "name another output"
    found = standing(output)
    is_resumed = found.mark is not None and found.mark.get("of") == schema.hash_rows(store.ids, store.captions)
    source_name = f"store {store.memmap_dir}"
    lost = found.refusal(f"{place}, add --replace") or what_is_lost(
        output, rows, partial(_made_otherwise, store), source=source_name, place=place, is_resumed=is_resumed
    )
    if lost is not None and not replace:
        raise lost
    return lost is not None


def _made_otherwise(store: Store, found: Mapping[str, Any]) -> list[str]:
    """What differs between how another store's rows were made, by its record's fields, and these, as far as it is known."""
    record = StoreRecord.from_json(found, "the record")
    known = asdict(store.record) if store.record is not None else {"kind": store.kind}
    of_making = {key: value for key, value in known.items() if key not in (*OF_THE_STORE, "versions")}
    words = [f"{key} is {found[key]!r} there and {value!r} here" for key, value in of_making.items() if found[key] != value]
    try:
        clips = schema.columns(record.kind, AudioSpec(record.mode, record.duration_s))
    except ValueError as error:
        return [*words, str(error)]
    lengths = clips["mean"][0], store.row_shape("mean")[0]
    return words if words or lengths[0] == lengths[1] else [f"clips have {lengths[0]} latents there and {lengths[1]} here"]


def backend_of_store(store: Store, given: str | None) -> str:
    """What made the rows: the record says, or where there is none, `given`. Raises: UserError where neither or both in conflict do."""
    if store.record is None and given is None:
        raise UserError(f"store {store.memmap_dir} has no record of the backend that made it; say which: --backend pretrained or lite")
    if store.record is not None and given not in (None, store.record.backend):
        raise UserError(f"store {store.memmap_dir} was made by the {store.record.backend} backend and not by {given}; leave --backend out")
    return store.record.backend if store.record is not None else str(given)


def convert_store(
    store: Store,
    output: Path,
    layout: str,
    *,
    spec: AudioSpec,
    backend: str,
    null_text: Tensor,
    dtypes: Mapping[str, torch.dtype] | None = None,
    aside: bool = False,
) -> StoreRecord:
    """Write the rows of a store as another store. What is known of their making stays in the record.

    Args:
        output: folder of the new store, which `check_output` let pass; its table and record go beside it.
        spec, backend: of the rows (a store without a record does not say).
        null_text: text feature of the empty string, (77, 1024).
        dtypes: for the compact layout, as `layout_of` takes them; what is not given keeps the dtype of a compact store.
        aside: move what stands there aside instead of replacing it.
    Raises: UserError for rows that no store may hold: a repeated id, numbers that are not finite (in the new dtype),
        equal captions with unequal text features.
    """
    _check_ids(store)
    chosen = dict(dtypes or {})
    if layout == "compact" and store.layout == "compact":
        kept = {name: store.dtype(name) for name in VIDEO_FEATURES if name in store.feature_names} | {"text": store.dtype(TEXT)}
        chosen = kept | chosen
    planned = schema.layout_of(layout, store.kind, spec, chosen)
    if not all_finite(null_text.to(_dtype_of(planned, TEXT))):
        raise UserError(f"the null text holds numbers that are not finite as {schema.dtype_name(_dtype_of(planned, TEXT))}; give another")
    return write_store(
        output.parent,
        output.name,
        kind=store.kind,
        layout=layout,
        spec=spec,
        backend=backend,
        index=list(zip(store.ids, store.captions, strict=True)),
        blocks=_blocks(store, planned),
        null_text=null_text,
        dtypes=chosen,
        made_as=store.record,
        is_encoders=_is_encoders(store, null_text),
        aside=aside,
    )


def _is_encoders(store: Store, null_text: Tensor) -> bool:
    """Whether a null text is known to be the encoder's: the one that the store has, by the hash that was taken when it was made."""
    recorded = store.record.null_text_hash if store.record is not None else ""
    return bool(recorded) and schema.hash_null_text(null_text, store.dtype(TEXT)) == recorded


def _check_ids(store: Store) -> None:
    first: dict[str, int] = {}
    for row, row_id in enumerate(store.ids):
        if first.setdefault(row_id, row) != row:
            raise UserError(f"rows {first[row_id]} and {row} of store {store.memmap_dir} have one id, {row_id!r}; a store holds each once")


def _dtype_of(planned: Layout, name: str) -> torch.dtype:
    return planned.dtypes[TEXT_TABLE if name == TEXT and planned.name == "compact" else name]


def _check_finite(store: Store, start: int, name: str, values: Tensor, dtype: torch.dtype) -> None:
    """Raises: UserError naming the first row, of rows from `start` on, with a number that the new column cannot hold."""
    finite = finite_rows(values.to(dtype))
    if not bool(finite.all()):
        row = start + int((~finite).nonzero()[0])
        where = f"{name} of row {row} (id {store.ids[row]!r}) of store {store.memmap_dir}"
        raise UserError(f"{where} holds numbers that are not finite as {schema.dtype_name(dtype)}; see `mmaudio store verify`")


def rows_at_once(store: Store) -> int:
    """Rows of a block of about BLOCK_BYTES in float32."""
    numbers = sum(torch.Size(store.row_shape(name)).numel() for name in (*store.feature_names, TEXT))
    return max(1, BLOCK_BYTES // (4 * numbers))


def _blocks(store: Store, planned: Layout) -> Iterator[Block]:
    """All rows of the store, in float32."""
    step, texts = rows_at_once(store), TextsOfCaptions(store.captions, lambda row: store.read_block(TEXT, row, row + 1)[0])
    starts = range(0, store.num_rows, step)
    for start in progress(starts, len(starts), "convert"):
        stop = min(start + step, store.num_rows)
        columns = {name: store.read_block(name, start, stop).float() for name in store.feature_names}
        text = store.text(torch.arange(start, stop))
        if store.layout == "published":
            _check_texts(store, start, text, texts)
        captions = store.captions[start:stop]
        for name, values in (columns | {TEXT: text}).items():
            _check_finite(store, start, name, values, _dtype_of(planned, name))
        # The first row of a caption speaks for all: they are equal, to rounding.
        first_texts = dict(zip(reversed(captions), reversed(text.float().unbind()), strict=True))
        yield Block(store.ids[start:stop], captions, columns, first_texts)


def _check_texts(store: Store, start: int, text: Tensor, texts: TextsOfCaptions) -> None:
    for row, one in enumerate(text, start):
        clash = texts.clash(row, one)
        if clash is not None:
            raise UserError(
                f"rows {clash.first} (id {store.ids[clash.first]!r}) and {clash.row} (id {store.ids[clash.row]!r}) of store"
                f" {store.memmap_dir} have the caption {store.captions[row]!r} and text features of different captions;"
                " the table is not the one of these rows, or the store has to be extracted again"
            )


# ---- From the shapes of a store without a record to the clips it holds

NUM_DIGITS = (1, 2)  # of durations that are tried


def spec_of_store(store: Store, duration_s: float | None = None) -> AudioSpec:
    """Mode and duration of a store's clips: its record's, or those that its lengths tell.

    Args:
        duration_s: of a store without a record, where it is known.
    Raises: UserError where nothing fits, or the given duration does not.
    """
    if store.record is not None:
        return _recorded(store, store.record, duration_s)
    modes = [name for name, mode in MODES.items() if mode.latent_channels == store.latent_channels]
    if not modes:
        known = ", ".join(f"{mode.latent_channels} ({name})" for name, mode in MODES.items())
        raise UserError(f"store {store.memmap_dir} has latents of {store.latent_channels} channels; known are {known}")
    candidates = _durations(store, modes[0]) if duration_s is None else iter((duration_s,))
    for candidate in candidates:
        if candidate >= MIN_DURATION_S and _fits(store, AudioSpec(modes[0], candidate)):
            return AudioSpec(modes[0], candidate)
    lengths = f"{store.num_latents} latents" + (f", {store.num_clip} and {store.num_sync} tokens" if store.kind == "video" else "")
    told = "say of how many seconds they are: --duration" if duration_s is None else f"--duration {duration_s:g} gives others"
    raise UserError(f"rows of store {store.memmap_dir} have {lengths} in mode {modes[0]}; {told}")


def _recorded(store: Store, record: StoreRecord, duration_s: float | None) -> AudioSpec:
    try:
        spec = AudioSpec(record.mode, record.duration_s)
    except ValueError as error:
        raise UserError(f"the record of store {store.memmap_dir} tells of clips that there cannot be: {error}") from None
    if duration_s not in (None, record.duration_s):
        raise UserError(f"--duration is {duration_s:g}, and clips of store {store.memmap_dir} have {record.duration_s:g} s; leave it out")
    if not _fits(store, spec):
        raise UserError(f"rows of store {store.memmap_dir} do not have the lengths of its record; see `mmaudio store verify`")
    return spec


def _fits(store: Store, spec: AudioSpec) -> bool:
    return all(store.row_shape(name) == shape for name, shape in schema.columns(store.kind, spec).items())


def _durations(store: Store, mode: str) -> Iterator[float]:
    """What is tried, most likely first: the default, what the counts of frames say, then round numbers within one latent."""
    yield DEFAULT_DURATION_S
    if store.kind == "video":
        yield store.num_clip / CLIP_FPS
    latent_s = MODES[mode].hop_samples * LATENT_DOWNSAMPLING / MODES[mode].rate_hz
    longest_s = store.num_latents * latent_s
    for digits in NUM_DIGITS:
        step_s = 10.0**-digits
        for steps_back in range(int(max(latent_s, 1 / SYNC_FPS) / step_s) + 2):
            yield round(round(longest_s, digits) - steps_back * step_s, digits)
