"""Writing a store: finished columns become its folder, in the place of the one before; a table and a record say what they are."""

import hashlib
import importlib.metadata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import mmaudio
from mmaudio.base.errors import UserError
from mmaudio.base.specs import AudioSpec
from mmaudio.files.atomic import atomic_folder, atomic_path, remove_leftovers, scratch_folder, write_json
from mmaudio.files.owned_files import file_sha256
from mmaudio.files.ownership import at_end_of_links, move_aside
from mmaudio.files.tables import table_sha256, write_table
from mmaudio.store import format as schema
from mmaudio.store.column_writer import (
    ColumnWriter,
    Shapes,
    append_file,
    column_bytes,
    column_path,
    describe_columns,
    link_or_copy,
    reserve_bytes,
)
from mmaudio.store.format import NULL_TEXT, TEXT, TEXT_ROW, TEXT_TABLE, Layout, StoreRecord, pack_null_text, write_null_text
from mmaudio.store.replacing import (
    NULL_TEXT_ENDING,
    TABLE_ENDING,
    Standing,
    beside,
    moves_aside,
    standing,
    store_mark,
)
from mmaudio.store.statistics import Moments

_GIVES_WAY = "makes way for a new one"


@dataclass(frozen=True)
class StoreRecipe:
    """How rows were made: what has to be equal for them to stand in one store."""

    kind: str
    spec: AudioSpec
    backend: str
    layout: Layout
    weights: Mapping[str, str] | None  # None: not known before they are loaded
    frame_rule: str = "exact"
    dtype: str = "fp32"
    normalised: bool = True
    resize: str = "host"

    def as_recorded(self) -> dict[str, Any]:
        """The fields of a StoreRecord that it decides."""
        return {
            "kind": self.kind,
            "layout": self.layout.name,
            "mode": self.spec.mode,
            "backend": self.backend,
            "duration_s": self.spec.duration_s,
            "dtypes": self.layout.dtype_names,
            "weights": None if self.weights is None else dict(self.weights),
            "frame_rule": self.frame_rule,
            "dtype": self.dtype,
            "normalised": self.normalised,
            "resize": self.resize,
        }

    def differences(self, found: Mapping[str, Any]) -> list[str]:
        """What differs between how rows were made, by a record's fields, and this; weights that are not known are left out."""
        wanted = {key: value for key, value in self.as_recorded().items() if not (key == "weights" and value is None)}
        return [f"{key} is {found.get(key)!r} there and {value!r} here" for key, value in wanted.items() if found.get(key) != value]


def new_record(
    recipe: StoreRecipe, ids: Sequence[str], captions: Sequence[str], moments: Moments, null_text: Tensor | None = None
) -> StoreRecord:
    """The record of a store of these rows.

    Args:
        null_text: what the encoder made of the empty string, (77, 1024), where it is known that it is that.
    """
    mean_c, std_c = moments.result()
    return StoreRecord(
        **recipe.as_recorded(),
        format_version=schema.FORMAT_VERSION,
        num_rows=len(ids),
        latent_mean=mean_c.tolist(),
        latent_std=std_c.tolist(),
        rows_hash=schema.hash_rows(ids, captions),
        null_text_hash="" if null_text is None else schema.hash_null_text(null_text, recipe.layout.text_dtype),
        versions={"mmaudio": mmaudio.__version__, "torch": torch.__version__, "tensordict": importlib.metadata.version("tensordict")},
    )


@dataclass(frozen=True)
class Sidecars:
    """What stands beside a store: its table, in the published layout the null text, and the record, without which none is whole."""

    record: StoreRecord
    ids: Sequence[str]
    captions: Sequence[str]
    null_text: Tensor | None  # (77, 1024)

    @classmethod
    def of(cls, record: StoreRecord, ids: Sequence[str], captions: Sequence[str], null_text: Tensor) -> "Sidecars":
        """Those of a store with this record, to which its mark is added."""
        made = cls(record, ids, captions, null_text if record.layout == "published" else None)
        mark = store_mark(record.rows_hash, made._sums(), list(record.dtypes))
        return replace(made, record=replace(record, mark=mark))

    def _columns(self) -> tuple[str, str]:
        return "id", schema.CAPTION_COLUMNS[self.record.kind]

    def _sums(self) -> dict[str, list[str]]:
        """Ending → SHA-256 of each file, in a list of one."""
        sums = {TABLE_ENDING: [table_sha256(self._columns(), zip(self.ids, self.captions, strict=True))]}
        return sums if self.null_text is None else sums | {NULL_TEXT_ENDING: [hashlib.sha256(pack_null_text(self.null_text)).hexdigest()]}

    def announce(self, folder: Path) -> None:
        """Say in the record that a store is being written, so that until `write` is done none is read, and all is known as ours."""
        self._note(folder, {"format_version": schema.UNFINISHED}, standing(folder))

    def _note(self, folder: Path, content: Mapping[str, Any], found: Standing) -> None:
        """Write a record whose mark knows the files that stand there and those that are to come.

        What somebody else put there meanwhile is moved aside, and said.
        """
        for path in found.foreign:
            if path != folder:
                move_aside(path, follows_link=True)
        mark, sums = self.record.mark, self._sums()
        for ending in (TABLE_ENDING, NULL_TEXT_ENDING):
            known = [file_sha256(beside(folder)[ending])] if beside(folder)[ending] not in found.foreign else []
            sums[ending] = [*sums.get(ending, []), *(each for each in known if each)]
        columns = dict.fromkeys([*mark["columns"], *(found.mark or {}).get("columns", []), *(found.record.dtypes if found.record else ())])
        noted = store_mark(content.get("rows_hash", self.record.rows_hash), sums, list(columns))
        write_json(schema.record_path(folder), {**content, "mark": noted})

    def write(self, folder: Path) -> None:
        """Write all of them, the record last. Once this has begun, the files before and after are known as this program's."""
        for path in beside(folder).values():
            remove_leftovers(path)
        found = standing(folder, grows=True)
        self._note(folder, found.content or {"format_version": schema.UNFINISHED}, found)
        if self.null_text is not None:
            write_null_text(schema.null_text_path(folder), self.null_text)
        elif schema.null_text_path(folder).exists():
            at_end_of_links(schema.null_text_path(folder)).unlink()
        write_table(schema.table_path(folder), self._columns(), zip(self.ids, self.captions, strict=True))
        write_json(schema.record_path(folder), self.record.to_json())


@contextmanager
def swapped_in(folder: Path, beside_it: Callable[[], Sidecars], *, aside: bool = False) -> Iterator[Path]:
    """Yield an empty temporary folder for a store's columns; in the end it takes the place of what stands there.

    Args:
        beside_it: what will stand beside the store; asked for when the block is done.
        aside: move what stands there aside, as one store where it is one, instead of replacing it.
    Raises: UserError where that is not this program's, and is not moved aside.
    """
    _check_replaceable(folder, aside=aside)
    place, moves = moves_aside(folder) if aside else (None, [])

    def prepare() -> None:
        for here, there in moves:
            move_aside(here, _GIVES_WAY, aside=there, follows_link=True)
        beside_it().announce(folder)

    with atomic_folder(folder, schema.STORE_FILES, prepare, aside=place) as temporary:
        yield temporary
        _check_replaceable(folder, aside=aside)  # it may have come meanwhile


def _check_replaceable(folder: Path, *, aside: bool) -> None:
    """Raises: UserError where what stands at the place of a store is not this program's."""
    if not aside and (refusal := standing(folder).refusal("name another place")) is not None:
        raise refusal


def move_into_store(
    folder: Path, source: Path, layout: Layout, counts: tuple[int, int], beside_it: Sidecars, *, aside: bool = False
) -> None:
    """Make the column files in `source` the store's folder, and write what stands beside it. The sources stay.

    Args:
        counts: rows and captions of the store.
        aside: as in `swapped_in`.
    Raises: UserError where something else stands there, or where they have to be copied and the disk is full.
    """
    shapes = layout.shapes(*counts)
    _check_whole(source, shapes, layout)
    with swapped_in(folder, lambda: beside_it, aside=aside) as temporary:
        describe_columns(temporary, shapes, layout.dtypes)
        for name in shapes:
            link_or_copy(column_path(source, name), column_path(temporary, name))
    beside_it.write(folder)


def _check_whole(source: Path, shapes: Shapes, layout: Layout) -> None:
    """Raises: UserError where a column file is not as long as columns of these shapes are."""
    for name, shape in shapes.items():
        found, want = column_path(source, name).stat().st_size, column_bytes(shape, layout.dtypes[name])
        if found != want:
            what = f"{column_path(source, name)} has {found} bytes where {want} belong"
            raise UserError(f"{what}: it was changed while the store was being made; run it again, and what is lost is made again")


def extend_in_place(folder: Path, source: Path, layout: Layout, old: tuple[int, int], added: tuple[int, int]) -> None:
    """Put the rows of the column files in `source` after those of a store; killed and done again, the outcome is the same.

    The old rows stay readable under the old meta.json until the new one stands; then the record has to follow.

    Args:
        old, added: rows and captions of the store, and of the files.
    Raises: UserError where a source has another length, or where the disk is full; the store then has its old rows, in files that may
        be longer.
    """
    was, shapes = layout.shapes(*old), layout.shapes(old[0] + added[0], old[1] + added[1])
    growing = [name for name in was if name not in layout.fixed_shapes]
    _check_whole(source, {name: (shapes[name][0] - was[name][0], *shapes[name][1:]) for name in growing}, layout)
    reserve_bytes({column_path(folder, name): column_bytes(shapes[name], layout.dtypes[name]) for name in growing})
    for name in growing:
        append_file(column_path(source, name), column_path(folder, name), column_bytes(was[name], layout.dtypes[name]))
    with scratch_folder(folder) as scratch:
        describe_columns(scratch, shapes, layout.dtypes)
        with atomic_path(folder / "meta.json") as temporary:
            (scratch / "meta.json").replace(temporary)


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
    recipe = StoreRecipe(kind, spec, backend, columns, dict(weights or {}), frame_rule)
    shapes = columns.shapes(len(index), len({caption for _, caption in index}))
    moments = Moments()
    ids, captions = [row_id for row_id, _ in index], [caption for _, caption in index]

    def sidecars() -> Sidecars:
        record = new_record(recipe, ids, captions, moments, null_text if is_encoders else None)
        if made_as is not None:
            record = replace(made_as, **{name: getattr(record, name) for name in OF_THE_STORE})
        return Sidecars.of(record, ids, captions, null_text)

    with swapped_in(folder, sidecars, aside=aside) as temporary, ColumnWriter.new(temporary, shapes, columns.dtypes) as files:
        _stream(files, tuple(schema.columns(kind, spec)), layout, index, blocks, moments)
        if layout == "compact":
            files.write(NULL_TEXT, 0, null_text)
    made = sidecars()
    made.write(folder)
    return made.record


def _stream(files: ColumnWriter, names: tuple[str, ...], layout: str, index: Index, blocks: Iterable[Block], moments: Moments) -> None:
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
