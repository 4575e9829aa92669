"""Columns of stores as tensors on the training device, and rows of a batch taken from them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor

from mmaudio.batches.batch import Selection
from mmaudio.batches.mixture import Mixture
from mmaudio.store import Store

LOADED_AT_ONCE = 1 << 26  # bytes


@dataclass(frozen=True)
class Table:
    """A column of some sources as one tensor on the device. `first`: number of a source → where its rows begin."""

    values: Tensor
    first: Mapping[int, int]

    def rows(self, mixture: Mixture, selection: Selection, name: str, samples: np.ndarray) -> np.ndarray:
        """Row of the table for each of some samples of a batch, (n,) int64; -1 for those it does not hold."""
        owners, found = selection.owners[samples], np.full(len(samples), -1)
        for owner, first in self.first.items():
            mine = np.flatnonzero(owners == owner)
            found[mine] = first + mixture.sources[owner].store.rows_on_disk(name, selection.rows[samples[mine]])
        return found


def join_rows(values: Tensor, index: Tensor, sent: Tensor | None, order: Tensor | None) -> Tensor:
    """Rows of a table, and between them, where there are some, rows that it does not hold.

    Args:
        values: the table. index: (k,) int64, rows to take.
        sent: (n - k, *shape of one), the others.
        order: (n,) int64: for each row of the result, its number among those taken, then those sent.
    """
    taken = values.index_select(0, index)
    return taken if sent is None or order is None else torch.cat([taken, sent]).index_select(0, order)


def num_rows_on_disk(store: Store, name: str) -> int:
    """Rows of the column that holds a column of `Store.gather`, or `text_features`."""
    return store.column_shapes[store.on_disk(name)][0]


def load_table(mixture: Mixture, name: str, owners: Sequence[int], device: torch.device, beat: Callable[[], None]) -> Table:
    """Copy a column of some sources (at least one), given by number, to a device in the dtype of the mixture; `beat` after a block."""
    stores = [mixture.sources[owner].store for owner in owners]
    ends = np.cumsum([num_rows_on_disk(store, name) for store in stores]).tolist()
    values = torch.empty((ends[-1], *mixture.row_shapes[name]), dtype=mixture.dtypes[name], device=device)
    starts = [0, *ends[:-1]]
    for store, start in zip(stores, starts, strict=True):
        for first, rows in _blocks(store, name):
            values[start + first : start + first + len(rows)] = rows.to(device, values.dtype)
            beat()
    return Table(values, dict(zip(owners, starts, strict=True)))


def _blocks(store: Store, name: str) -> Iterator[tuple[int, Tensor]]:
    """Rows of a column as they are on disk, in blocks, and where each begins."""
    num_rows = num_rows_on_disk(store, name)
    step = max(1, LOADED_AT_ONCE // (prod(store.row_shape(name)) * store.dtype(name).itemsize))
    for start in range(0, num_rows, step):
        yield start, store.read_block(store.on_disk(name), start, min(start + step, num_rows))
