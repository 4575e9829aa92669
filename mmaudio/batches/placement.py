"""Where columns of stores are read from: the disk, the page cache, or tables on the training device."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from torch import Tensor

from mmaudio.base.errors import UserError
from mmaudio.base.machine import memory_bytes
from mmaudio.batches.batch import Selection
from mmaudio.batches.mixture import Mixture, has_column
from mmaudio.store import Store
from mmaudio.store.format import TEXT

log = logging.getLogger(__name__)


LOADED_AT_ONCE = 1 << 26  # bytes


@dataclass(frozen=True)
class DeviceTable:
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


def load_table(mixture: Mixture, name: str, owners: Sequence[int], device: torch.device, beat: Callable[[], None]) -> DeviceTable:
    """Copy a column of some sources (at least one), given by number, to a device in the dtype of the mixture; `beat` after a block."""
    stores = [mixture.sources[owner].store for owner in owners]
    ends = np.cumsum([num_rows_on_disk(store, name) for store in stores]).tolist()
    values = torch.empty((ends[-1], *mixture.row_shapes[name]), dtype=mixture.dtypes[name], device=device)
    starts = [0, *ends[:-1]]
    for store, start in zip(stores, starts, strict=True):
        for first, rows in _blocks(store, name):
            values[start + first : start + first + len(rows)] = rows.to(device, values.dtype)
            beat()
    return DeviceTable(values, dict(zip(owners, starts, strict=True)))


def _blocks(store: Store, name: str) -> Iterator[tuple[int, Tensor]]:
    """Rows of a column as they are on disk, in blocks, and where each begins."""
    num_rows = num_rows_on_disk(store, name)
    step = max(1, LOADED_AT_ONCE // (prod(store.row_shape(name)) * store.dtype(name).itemsize))
    for start in range(0, num_rows, step):
        yield start, store.read_block(store.on_disk(name), start, min(start + step, num_rows))


KINDS = ("memmap", "ram", "device")
_CPU = torch.device("cpu")


class Placement:
    """What a mixture keeps where, for all iterators over it. Made by `Placement.of`, once: it may take the time of reading everything.

    Attributes:
        tables: column → table on the device. What is in none is read from the stores' files.
    """

    def __init__(self, mixture: Mixture, device: torch.device, tables: Mapping[str, DeviceTable]) -> None:
        self.mixture, self.device, self.tables = mixture, device, dict(tables)

    @classmethod
    def of(
        cls,
        mixture: Mixture,
        device: torch.device | str = _CPU,
        kind: str = "memmap",
        caption_table_gb: float = 0.0,
        beat: Callable[[], None] = lambda: None,
    ) -> "Placement":
        """Place a mixture.

        Args:
            device: of the training.
            kind: `memmap`: rows are read from the files. `ram`: the same, but all files are read once before, so that the page
                cache, which the processes of a machine share, holds them; under memory pressure the system drops what it
                needs and those rows come from the disk again. `device`: all columns are copied to the device.
            caption_table_gb: captions of compact stores are copied to the device, whatever the kind, up to so many GB, a store
                wholly or not at all, in the order of the sources.
            beat: called now and then while stores are read.
        Raises: ValueError for another kind; UserError where the device has not enough memory; OSError as reading does.
        """
        if kind not in KINDS:
            raise ValueError(f"placement is {kind!r}; want {', '.join(KINDS[:-1])} or {KINDS[-1]}")
        device = torch.device(device)
        if kind == "device":
            chosen = {name: _owners(mixture, name) for name in mixture.row_shapes}
            _check_room(mixture, chosen, device)
        else:
            chosen = {TEXT: _captions_that_fit(mixture, caption_table_gb * 1e9)}
        if kind == "ram":
            _warm(mixture, beat)
        tables = {name: load_table(mixture, name, owners, device, beat) for name, owners in chosen.items() if owners}
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # other streams read them
        return cls(mixture, device, tables)


def available_bytes(device: torch.device) -> int:
    """Memory that is free on a device, or that the system can make free for the CPU."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return memory_bytes()[1]


def _owners(mixture: Mixture, name: str) -> list[int]:
    return [number for number, source in enumerate(mixture.sources) if has_column(source.store, name)]


def _table_bytes(mixture: Mixture, name: str, owner: int) -> int:
    """Of one source's rows of a column, in the dtype of the mixture."""
    return num_rows_on_disk(mixture.sources[owner].store, name) * prod(mixture.row_shapes[name]) * mixture.dtypes[name].itemsize


def _check_room(mixture: Mixture, chosen: Mapping[str, list[int]], device: torch.device) -> None:
    wanted = sum(_table_bytes(mixture, name, owner) for name, owners in chosen.items() for owner in owners)
    free = available_bytes(device)
    if wanted > free:
        raise UserError(
            f"placement=device wants {wanted / 1e9:.1f} GB for the stores and {device} has {free / 1e9:.1f} GB free;"
            " take placement=ram or placement=memmap"
        )


def _captions_that_fit(mixture: Mixture, budget_bytes: float) -> list[int]:
    """The sources, in order, whose caption tables fit into what those before them left."""
    fitting = []
    for owner, source in enumerate(mixture.sources):
        if source.store.layout != "compact":
            continue
        wanted = _table_bytes(mixture, TEXT, owner)
        if wanted <= budget_bytes:
            budget_bytes -= wanted
            fitting.append(owner)
        else:
            log.info(
                "captions of store %s (%.2f GB) are read with the rows: caption_table_gb leaves %.2f GB",
                *(source.name, wanted / 1e9, budget_bytes / 1e9),
            )
    return fitting


def _warm(mixture: Mixture, beat: Callable[[], None]) -> None:
    stores = {source.store.memmap_dir: source.store for source in mixture.sources}.values()
    wanted, free, began_s = (
        sum(store.num_rows * store.row_bytes + store.shared_bytes for store in stores),
        available_bytes(_CPU),
        time.monotonic(),
    )
    if wanted > free:
        log.warning(
            "placement=ram wants %.1f GB for the stores and %.1f GB are available: what does not fit is read from the disk again",
            *(wanted / 1e9, free / 1e9),
        )
    buffer = np.empty(LOADED_AT_ONCE, dtype=np.uint8)
    for store in stores:
        store.warm(buffer)
        beat()
    log.info("read %.1f GB of stores into memory in %.0f s", wanted / 1e9, time.monotonic() - began_s)
