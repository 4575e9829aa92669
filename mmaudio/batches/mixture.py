"""Stores as one long list of rows, and the reads of some of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mmaudio.base.specs import AudioSpec
from mmaudio.batches.batch import Batch, Selection
from mmaudio.store import Store
from mmaudio.store.columns import carried
from mmaudio.store.format import TEXT, TEXT_SHAPE, VIDEO_FEATURES, columns


@dataclass(frozen=True)
class StoreRows:
    """Row rows[i] of a column goes to out[places[i]], a CPU tensor, when called. Raises then: OSError for a store cut short."""

    out: Tensor
    rows: np.ndarray
    places: np.ndarray
    store: Store
    name: str

    def __call__(self) -> None:
        self.store.copy_rows_(self.out, self.name, self.rows, self.places)

    def on_disk(self) -> np.ndarray:
        return self.store.rows_on_disk(self.name, self.rows)


@dataclass(frozen=True)
class TableRows:
    """Row rows[i] of a CPU tensor goes to out[places[i]] when called."""

    out: Tensor
    rows: np.ndarray
    places: np.ndarray
    values: Tensor

    def __call__(self) -> None:
        source, target = carried(self.values), carried(self.out)
        for row, place in zip(self.rows.tolist(), self.places.tolist(), strict=True):
            target[place] = source[row]

    def on_disk(self) -> np.ndarray:
        return self.rows


def in_pieces(read: StoreRows | TableRows, num_rows: int) -> Iterator[StoreRows | TableRows]:
    """The same in pieces of that many rows, each of neighbours in the file or table."""
    order = np.argsort(read.on_disk(), kind="stable")
    for start in range(0, len(order), num_rows):
        some = order[start : start + num_rows]
        yield replace(read, rows=read.rows[some], places=read.places[some])


def num_bytes(read: StoreRows | TableRows) -> int:
    """Bytes that a read fills."""
    return len(read.rows) * read.out[0].nbytes if len(read.rows) else 0


_BATCH_FIELDS = {
    "mean": "a_mean",
    "std": "a_std",
    TEXT: "text_table",
}  # what the published system calls them in a batch; others keep their name


@dataclass(frozen=True)
class Source:
    """One store in a mixture."""

    name: str
    kind: str  # `video` or `audio`, as configured; check_sources compares it with what the store holds
    store: Store
    repeat: int = 1

    @classmethod
    def open(cls, name: str, tsv: Path, memmap_dir: Path, *, kind: str | None = None, repeat: int = 1) -> "Source":
        """A source whose store is still to be opened; `kind` None means what the store holds. Raises: as `Store.open`."""
        store = Store.open(tsv, memmap_dir)
        return cls(name, kind or store.kind, store, repeat)


class Mixture:
    """Sources one after another, each as often as it is repeated; row numbers run through all of them.

    Attributes:
        row_shapes: column → shape of one row; clip and sync features are there even if no store has video.
        dtypes: column → the stored dtype, or float32 where stores differ or none has it.
    """

    def __init__(self, sources: Sequence[Source], spec: AudioSpec) -> None:
        """Join sources that `check_stores_fit` found to fit.

        Args:
            sources: in the order in which their rows are numbered.
            spec: lengths of the model; sizes streams that no store has.
        Raises: ValueError for no sources or a repeat below 1.
        """
        if not sources:
            raise ValueError("a mixture needs at least one source")
        if any(source.repeat < 1 for source in sources):
            raise ValueError(f"repeat is {[source.repeat for source in sources]}; want at least 1 each")
        self.sources = tuple(sources)
        self.spec = spec
        self.row_shapes = {**columns("video", spec), TEXT: TEXT_SHAPE}
        self.dtypes = {name: self._common_dtype(name) for name in self.row_shapes}
        self._num_rows = np.array([source.store.num_rows for source in sources])
        self._ends = np.cumsum(self._num_rows * [source.repeat for source in sources])
        self._starts = np.concatenate(([0], self._ends[:-1]))
        self._has_video = np.array([source.store.kind == "video" for source in sources])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def _common_dtype(self, name: str) -> torch.dtype:
        dtypes = {source.store.dtype(name) for source in self.sources if has_column(source.store, name)}
        return dtypes.pop() if len(dtypes) == 1 else torch.float32

    def select(self, indices: np.ndarray | Tensor, positions: np.ndarray | Tensor | None = None) -> Selection:
        """Find rows by their numbers; nothing is read.

        Args:
            indices: (b,) int64, row numbers of the mixture.
            positions: what `Batch.positions` shall say; by default 0 … b - 1.
        Raises: IndexError for an index that is not there.
        """
        indices = np.asarray(indices, dtype=np.int64)
        if len(indices) and not (indices.min() >= 0 and indices.max() < len(self)):
            raise IndexError(f"rows {indices.min()} to {indices.max()} of a mixture of {len(self)}")
        owners = np.searchsorted(self._ends, indices, side="right")
        places = np.arange(len(indices)) if positions is None else np.array(positions, dtype=np.int64)
        return Selection(owners, (indices - self._starts[owners]) % self._num_rows[owners], places, self._has_video[owners])

    def batch(self, selection: Selection, tensors: Mapping[str, Tensor], text_rows: Tensor | None = None) -> Batch:
        """A batch of these rows from the tensors of its columns; `text_rows` None: of captions each sample has the one at its place."""
        features = {_BATCH_FIELDS.get(name, name): tensor for name, tensor in tensors.items()}
        if text_rows is None:
            text_rows = torch.arange(len(selection), device=tensors[TEXT].device)
        return Batch(
            ids=self.ids_of(selection),
            captions=[store.captions[row] for store, row in self._owned(selection)],
            positions=torch.from_numpy(selection.positions),
            video_exist=torch.from_numpy(selection.has_video),
            text_exist=torch.from_numpy(np.ones(len(selection), dtype=bool)),
            text_rows=text_rows,
            **features,
        )

    def ids_of(self, selection: Selection) -> list[str]:
        """Ids of these rows."""
        return [store.ids[row] for store, row in self._owned(selection)]

    def _owned(self, selection: Selection) -> Iterator[tuple[Store, int]]:
        for owner, row in zip(selection.owners.tolist(), selection.rows.tolist(), strict=True):
            yield self.sources[owner].store, row

    def gather(self, indices: np.ndarray | Tensor, positions: np.ndarray | Tensor | None = None) -> Batch:
        """Read a single batch into memory of its own, on the CPU. Arguments and errors as `select`."""
        selection, tensors = self.select(indices, positions), {}
        for name, shape in self.row_shapes.items():
            samples = samples_with(selection, name)
            tensors[name] = torch.empty((len(samples), *shape), dtype=self.dtypes[name])
            for read in self.reads(selection, name, samples, np.arange(len(samples)), tensors[name]):
                read()
        return self.batch(selection, tensors)

    def reads(self, selection: Selection, name: str, samples: np.ndarray, places: np.ndarray, out: Tensor) -> Iterator[StoreRows]:
        """What is to be done for the rows of a column to stand in `out`: a read for each store.

        Args:
            samples: (n,) int64, places in the selection; all have the column.
            places: (n,) int64, where in `out` their rows go.
            out: CPU tensor of the mixture's dtype.
        """
        owners = selection.owners[samples]
        for owner in np.unique(owners).tolist():
            mine = np.flatnonzero(owners == owner)
            yield StoreRows(out, selection.rows[samples[mine]], places[mine], self.sources[owner].store, name)

    def ids(self) -> list[str]:
        """Ids of all rows, in order, repeats included."""
        return [row_id for source in self.sources for row_id in source.store.ids * source.repeat]

    def latent_statistics(self) -> tuple[Tensor, Tensor]:
        """Per-channel mean and standard deviation of the first video store's latents, or of the first store's if none is video."""
        first = next((source for source in self.sources if source.store.kind == "video"), self.sources[0])
        return first.store.latent_statistics()


def has_column(store: Store, name: str) -> bool:
    return name == TEXT or name in store.feature_names


def samples_with(selection: Selection, name: str) -> np.ndarray:
    """Places in the batch of the samples that have a column."""
    return np.flatnonzero(selection.has_video) if name in VIDEO_FEATURES else np.arange(len(selection))
