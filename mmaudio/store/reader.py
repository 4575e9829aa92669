"""Reads a store, in either layout and with or without a record: opened at once, read a row at a time."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mmaudio.base.errors import Problems, UserError
from mmaudio.files.atomic import parse_json
from mmaudio.files.tables import read_columns, read_header
from mmaudio.store import format as schema
from mmaudio.store.columns import Column, open_columns
from mmaudio.store.format import LATENTS, NULL_TEXT, TEXT, TEXT_ROW, TEXT_TABLE, VIDEO_FEATURES, StoreRecord, read_null_text
from mmaudio.store.statistics import Moments

_SCAN_ROWS = 256


class Store:
    """Rows of features and what they are called. Made by `Store.open`; reading never changes it.

    Attributes:
        name: name of the folder.
        memmap_dir: the folder.
        ids, captions: text of every row, in order.
        kind: `video` or `audio`. layout: `compact` or `published`.
        record: what made it, or None for a store of the published system.
        num_rows, num_latents, latent_channels, num_clip, num_sync: lengths; the last two are 0 for kind audio.
    """

    def __init__(
        self, memmap_dir: Path, ids: Sequence[str], captions: Sequence[str], columns: dict[str, Column], record: StoreRecord | None
    ) -> None:
        """Use `Store.open`, which checks that these belong together."""
        self.name = memmap_dir.name
        self.memmap_dir = memmap_dir
        self.ids = list(ids)
        self.captions = list(captions)
        self.record = record
        self.kind = "video" if VIDEO_FEATURES[0] in columns else "audio"
        self.layout = "compact" if TEXT_TABLE in columns else "published"
        self.num_rows, self.num_latents, self.latent_channels = columns["mean"].shape
        self.num_clip, self.num_sync = (columns[name].shape[1] if name in columns else 0 for name in VIDEO_FEATURES)
        self._columns = columns
        compact = self.layout == "compact"
        self._text = columns[TEXT_TABLE if compact else TEXT]
        self._text_rows = columns[TEXT_ROW].slice(0, self.num_rows).numpy().astype(np.int64) if compact else np.arange(self.num_rows)
        self._feature_names = tuple(name for name in (*LATENTS, *VIDEO_FEATURES) if name in columns)

    @classmethod
    def open(cls, tsv: Path, memmap_dir: Path) -> "Store":
        """Open a store and check that its table, its columns and its record belong together.

        Args:
            tsv: table with `id` and `caption` or `label`.
            memmap_dir: TensorDict memmap folder; the record, if any, is `<memmap_dir>.json`.
        Raises: UserError with one sentence for each thing that is missing or does not fit.
        """
        store = cls.open_unchecked(tsv, memmap_dir)
        problems = Problems()
        for sentence in store.contradictions(tsv).values():
            problems.add(sentence)
        problems.raise_any()
        return store

    @classmethod
    def open_unchecked(cls, tsv: Path, memmap_dir: Path) -> "Store":
        """As `open`, but a store whose contents contradict each other is opened, too: see `contradictions`."""
        tsv, memmap_dir = Path(tsv), Path(memmap_dir)
        name = str(memmap_dir)
        problems = Problems()
        rows = problems.check(lambda: read_rows(tsv, memmap_dir))
        record = problems.check(lambda: read_store_record(memmap_dir))
        columns = problems.check(lambda: open_columns(memmap_dir, name, may_be_longer=record is not None))
        if columns is not None:
            _check_columns(columns, name, problems)
        problems.raise_any()
        assert rows is not None
        assert columns is not None
        ids, captions = rows
        _check_counts(tsv, name, len(ids), columns, record, problems)
        problems.raise_any()
        return cls(memmap_dir, ids, captions, columns, record)

    def contradictions(self, tsv: Path) -> dict[str, str]:
        """What only the contents tell, a sentence for each of `record`, `rows` (their hash) and `texts` (places) that is wrong."""
        record, name, found = self.record, str(self.memmap_dir), {}
        if record is None and self.layout == "compact":
            found["record"] = f"store {name} has no {schema.record_path(self.memmap_dir)}: its writing was interrupted; extract it again"
        if record is not None and (record.kind, record.layout) != (self.kind, self.layout):
            found["record"] = (
                f"{schema.record_path(self.memmap_dir)} tells of a store of kind {record.kind} in {record.layout} layout and {name} holds"
                f" kind {self.kind} in {self.layout} layout; they are not one store: extract it again"
            )
        if record is not None and record.rows_hash != schema.hash_rows(self.ids, self.captions):
            found["rows"] = (
                f"the ids or captions of {tsv} are not those that store {name} was written with, so its rows may be other clips;"
                " bring the original table back or extract the store again"
            )
        if self._text_rows.min() < 0 or self._text_rows.max() >= self._text.shape[0]:
            found["texts"] = f"store {name} points at captions beyond its {self._text.shape[0]}; extract it again"
        return found

    @property
    def column_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every column on disk, in the order of meta.json."""
        return {name: column.shape for name, column in self._columns.items()}

    @property
    def column_dtypes(self) -> dict[str, torch.dtype]:
        """Dtype of every column on disk, in the order of meta.json."""
        return {name: column.dtype for name, column in self._columns.items()}

    @property
    def row_bytes(self) -> int:
        """Bytes on disk that a row has to itself."""
        return sum(self._bytes(name) // self.num_rows for name in self._columns if name not in (TEXT_TABLE, NULL_TEXT))

    @property
    def shared_bytes(self) -> int:
        """Bytes on disk of captions, each stored once for all its rows, and of the null text; 0 in the published layout."""
        return sum(self._bytes(name) for name in self._columns if name in (TEXT_TABLE, NULL_TEXT))

    def _bytes(self, name: str) -> int:
        return int(np.prod(self._columns[name].shape, dtype=np.int64)) * self._columns[name].dtype.itemsize

    @property
    def text_rows(self) -> np.ndarray:
        """Which text feature on disk each row has: (rows,) int64."""
        return self._text_rows

    def read_block(self, column: str, start: int, stop: int) -> Tensor:
        """Copy rows start … stop - 1 of a column as it is on disk, (stop - start, *shape of one), in its stored dtype."""
        return self._columns[column].slice(start, stop)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Columns of `gather`: mean, std[, clip_features, sync_features]."""
        return self._feature_names

    @property
    def text_shape(self) -> tuple[int, ...]:
        """Shape of one row of text features: (tokens, width)."""
        return self._text.shape[1:]

    def row_shape(self, name: str) -> tuple[int, ...]:
        """Shape of one row of a column of `gather`, or of `text_features`."""
        return self.text_shape if name == TEXT else self._columns[name].shape[1:]

    def dtype(self, name: str) -> torch.dtype:
        """Stored dtype of a column of `gather`, or of `text_features`."""
        return self._text.dtype if name == TEXT else self._columns[name].dtype

    def copy_rows_(self, out: Tensor, name: str, rows: np.ndarray, places: np.ndarray) -> None:
        """Copy row rows[i] of a column of `gather`, or of `text_features`, to out[places[i]].

        Args:
            out: CPU tensor (any, *shape of one row) of the stored dtype, or float32.
            rows, places: int64, same length.
        Raises: IndexError for a row that is not there.
        """
        if name == TEXT:
            if len(rows) and rows.min() < 0:  # text_rows would take it from the end
                raise IndexError(f"row {int(rows.min())} of store {self.name}")
            self._text.copy_rows_(out, self._text_rows[rows], places)
        else:
            self._columns[name].copy_rows_(out, rows, places)

    def warm(self, buffer: np.ndarray) -> int:
        """Read every column once, so that the page cache holds them as far as memory goes; returns the bytes. See `ScoreColumn.warm`."""
        return sum(column.warm(buffer) for column in self._columns.values())

    def on_disk(self, name: str) -> str:
        """The column on disk that holds a column of `gather`, or `text_features`, of which many rows may share one."""
        return TEXT_TABLE if name == TEXT and self.layout == "compact" else name

    def rows_on_disk(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Where rows stand in the column `on_disk(name)`: (rows,) int64."""
        return self._text_rows[rows] if name == TEXT else rows

    def _copy(self, name: str, rows: Tensor) -> Tensor:
        out = torch.empty((len(rows), *self.row_shape(name)), dtype=self.dtype(name))
        self.copy_rows_(out, name, rows.numpy(), np.arange(len(rows)))
        return out

    def gather(self, rows: Tensor) -> dict[str, Tensor]:
        """Copies of the asked rows in stored dtypes: mean, std[, clip_features, sync_features], each (R, tokens, width).

        Args:
            rows: (R,) int64, any order, repeats allowed.
        Raises: IndexError for a row that is not there.
        """
        return {name: self._copy(name, rows) for name in self._feature_names}

    def text(self, rows: Tensor) -> Tensor:
        """Text features of the asked rows, (R, 77, 1024) in the stored dtype."""
        return self._copy(TEXT, rows)

    def null_text(self) -> Tensor | None:
        """Text feature of the empty string, (77, 1024); None for a store of the published system without it.

        Raises: UserError for a file beside the store that cannot be read.
        """
        column = self._columns.get(NULL_TEXT)
        if column is not None:
            return column.slice(0, column.shape[0])
        beside = schema.null_text_path(self.memmap_dir)
        return read_null_text(beside) if beside.is_file() else None

    def latent_statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (n - 1) of `mean` over rows and time, (channels,) float32; scanned if not recorded."""
        if self.record is not None:
            return torch.tensor(self.record.latent_mean), torch.tensor(self.record.latent_std)
        moments = Moments()
        for start in range(0, self.num_rows, _SCAN_ROWS):
            moments.add(self._columns["mean"].slice(start, min(start + _SCAN_ROWS, self.num_rows)))
        mean_c, std_c = moments.result()
        return mean_c.float(), std_c.float()


def read_rows(tsv: Path, memmap_dir: Path) -> tuple[list[str], list[str]]:
    """Ids and captions. Raises: UserError as `read_table`, or where neither `caption` nor `label` is a column."""
    if not tsv.is_file():
        raise UserError(f"store {memmap_dir} has no table {tsv}; check the path, or extract the store (again)")
    columns = read_header(tsv)
    caption = next((column for column in schema.CAPTION_COLUMNS.values() if column in columns), None)
    if caption is None:
        raise UserError(f"{tsv} has no column 'caption' or 'label'; its columns are {', '.join(columns)}")
    ids: list[str] = []
    captions: list[str] = []
    known: dict[str, str] = {}  # equal captions are one text in memory
    for row_id, text in read_columns(tsv, ("id", caption)):
        ids.append(row_id)
        captions.append(known.setdefault(text, text))
    return ids, captions


def read_store_record(memmap_dir: Path) -> StoreRecord | None:
    """The record beside the folder; None if there is none. Raises: UserError for one that cannot be read."""
    path = schema.record_path(memmap_dir)
    if not path.is_file():
        return None
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except ValueError:
        raise UserError(f"{path} is not JSON; extract store {memmap_dir} again") from None
    return StoreRecord.from_json(content, str(path))


def _check_columns(columns: dict[str, Column], name: str, problems: Problems) -> None:
    """Which columns there are, and that their shapes are those of rows."""
    text = {TEXT_TABLE: 3, TEXT_ROW: 1} if TEXT_TABLE in columns else {TEXT: 3}
    video = dict.fromkeys(VIDEO_FEATURES, 3) if set(VIDEO_FEATURES) & set(columns) else {}
    wanted = dict.fromkeys(LATENTS, 3) | video | text
    missing = [column for column in wanted if column not in columns]
    if missing:
        problems.add(f"store {name} has no column {', '.join(missing)}; its columns are {', '.join(columns) or 'none'}; extract it again")
        return
    for column, num_axes in wanted.items():
        shape = columns[column].shape
        if len(shape) != num_axes or 0 in shape:
            problems.add(f"store {name}: {column} has shape {list(shape)}; want {num_axes} axes, none empty; extract it again")
    if columns["mean"].shape != columns["std"].shape:
        problems.add(f"store {name}: mean is {list(columns['mean'].shape)} and std {list(columns['std'].shape)}; extract it again")
    floating = [column for column in wanted if column != TEXT_ROW]
    for column in wanted:
        if columns[column].dtype.is_floating_point != (column in floating):
            problems.add(f"store {name}: {column} has dtype {schema.dtype_name(columns[column].dtype)}; extract it again")


def _check_counts(
    tsv: Path, name: str, num_listed: int, columns: dict[str, Column], record: StoreRecord | None, problems: Problems
) -> None:
    """One row of the table for one of every column."""
    counts = {column: columns[column].shape[0] for column in (*LATENTS, *VIDEO_FEATURES, TEXT, TEXT_ROW) if column in columns}
    if set(counts.values()) != {num_listed}:
        found = ", ".join(f"{column} {count}" for column, count in counts.items()) if len(set(counts.values())) > 1 else counts["mean"]
        problems.add(f"{tsv} lists {num_listed} rows and store {name} holds {found}; give the table written with it, or extract it again")
    elif record is not None and record.num_rows != num_listed:
        problems.add(
            f"{schema.record_path(Path(name))} tells of {record.num_rows} rows and store {name} holds {num_listed}; extract it again"
        )
