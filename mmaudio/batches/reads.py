"""Rows of one column to be put at their places: from a store's file, or from a table in the memory of the process."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from mmaudio.store import Store
from mmaudio.store.columns import carried


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
