"""The last steps of a store: finished column files become its folder, and a table and a record say what they are."""

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import mmaudio
from mmaudio.base.errors import UserError
from mmaudio.base.files import atomic_folder, atomic_path, scratch_folder, sweep, write_json
from mmaudio.base.null_text import write_null_text
from mmaudio.base.specs import AudioSpec
from mmaudio.base.tables import write_table
from mmaudio.store import schema
from mmaudio.store.column_files import Shapes, append_file, column_bytes, column_path, describe_columns, link_or_copy, reserve_bytes
from mmaudio.store.schema import Layout, StoreRecord
from mmaudio.store.statistics import Moments


@dataclass(frozen=True)
class Recipe:
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
    recipe: Recipe, ids: Sequence[str], captions: Sequence[str], moments: Moments, null_text: Tensor | None = None
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


def _beside(folder: Path) -> list[Path]:
    return [where(folder) for where in (schema.record_path, schema.table_path, schema.null_text_path)]


def forget_sidecars(folder: Path) -> None:
    """Remove what stands beside a store, before its rows change: new rows must never stand beside the old table."""
    for path in _beside(folder):
        path.unlink(missing_ok=True)


def write_sidecars(folder: Path, record: StoreRecord, ids: Sequence[str], captions: Sequence[str], null_text: Tensor) -> None:
    """Write what stands beside a store; the record, without which none is whole, comes last."""
    for path in _beside(folder):
        sweep(path)
    if record.layout == "published":
        write_null_text(schema.null_text_path(folder), null_text)
    write_table(schema.table_path(folder), ("id", schema.CAPTION_COLUMNS[record.kind]), zip(ids, captions, strict=True))
    write_json(schema.record_path(folder), record.to_json())


def put_in_place(folder: Path, source: Path, layout: Layout, num_rows: int, num_captions: int) -> None:
    """Make the column files in `source` the store's folder, in place of an older store's. The sources stay.

    Raises: UserError where the folder holds other things, a source has another length, or it has to be copied and the disk is full.
    """
    shapes = layout.shapes(num_rows, num_captions)
    _check_whole(source, shapes, layout)
    with atomic_folder(folder, schema.STORE_FILES, lambda: forget_sidecars(folder)) as temporary:
        describe_columns(temporary, shapes, layout.dtypes)
        for name in shapes:
            link_or_copy(column_path(source, name), column_path(temporary, name))


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
