"""One batch into one host buffer: a block of memory for all its columns, filled from stores in pieces, and used again for a later one."""

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mmaudio.batches.batch import Batch, Selection
from mmaudio.batches.mixture import Mixture, StoreRows, TableRows, has_column, in_pieces, num_bytes, samples_with
from mmaudio.batches.placement import DeviceTable, Placement, join_rows
from mmaudio.store.format import TEXT

# Rows start where pages do: on AMD Zen 3 the kernel copies to addresses a few bytes beyond a page's start at a quarter of
# the speed (docs/performance.md, "Batches"), and NumPy's large arrays start 16 bytes beyond one.
PAGE_BYTES = 4096
Shapes = Mapping[str, tuple[tuple[int, ...], torch.dtype]]  # name → shape and dtype


@dataclass(frozen=True)
class BufferRegion:
    """Where in a block of bytes a tensor is."""

    start: int
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def stop(self) -> int:
        return self.start + int(np.prod(self.shape)) * self.dtype.itemsize

    def of(self, block: Tensor) -> Tensor:
        """The tensor, as a view of a block of bytes on any device."""
        return block[self.start : self.stop].view(self.dtype).view(self.shape)


def lay_out(shapes: Shapes) -> tuple[dict[str, BufferRegion], int]:
    """Regions of tensors one after another, each from a page's start on, and the bytes of all."""
    regions, end = {}, 0
    for name, (shape, dtype) in shapes.items():
        regions[name] = BufferRegion(-(-end // PAGE_BYTES) * PAGE_BYTES, shape, dtype)
        end = regions[name].stop
    return regions, end


def host_buffer(num_bytes: int, *, pinned: bool = False) -> Tensor:
    """(num_bytes,) uint8 of host memory from a page's start on; `pinned`: which a GPU can read by itself."""
    if pinned:
        return torch.empty(num_bytes, dtype=torch.uint8, pin_memory=True)
    room = np.empty(num_bytes + PAGE_BYTES, dtype=np.uint8)
    start = -room.ctypes.data % PAGE_BYTES
    return torch.from_numpy(room[start : start + num_bytes])


ROWS_A_READ = 32  # enough for a disk's queue, few enough to spread over threads
_INDEX, _ORDER = ".index", ".order"  # tensors of a column: which rows of its table, and where they and the read rows go


@dataclass(frozen=True)
class BatchInBuffer:
    """A batch in a block of bytes: where its tensors are."""

    selection: Selection
    regions: Mapping[str, BufferRegion]
    num_bytes: int

    def batch(self, placement: Placement, block: Tensor) -> Batch:
        """The batch as views of its block, which is on the placement's device, and of what that device puts together itself."""
        tensors, text_rows = {}, None
        for name in placement.mixture.row_shapes:
            found = {key: self.regions[key].of(block) for key in (name, name + _INDEX, name + _ORDER) if key in self.regions}
            index, rows = found.get(name + _INDEX), found.get(name)
            if index is not None and rows is None and name == TEXT:
                rows, text_rows = placement.tables[name].values, index  # no copy: whoever wants captions takes them from the table
            elif index is not None:
                rows = join_rows(placement.tables[name].values, index, rows, found.get(name + _ORDER))
            assert rows is not None
            tensors[name] = rows
        return placement.mixture.batch(self.selection, tensors, text_rows)


@dataclass(frozen=True)
class _Column:
    """A column of one batch: the samples (n,) that have it, and the row of its table (n,) for each, or -1."""

    name: str
    samples: np.ndarray
    index: np.ndarray

    @classmethod
    def of(cls, mixture: Mixture, selection: Selection, name: str, table: DeviceTable | None) -> "_Column":
        samples = samples_with(selection, name)
        return cls(name, samples, np.full(len(samples), -1) if table is None else table.rows(mixture, selection, name, samples))

    def shapes(self, mixture: Mixture, *, joined: bool) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        """Tensors in the block; `joined`: all rows are in it, but for captions that are all in the table; else the device joins them."""
        num_rows, num_held = len(self.index), int((self.index >= 0).sum())
        if joined and not (self.name == TEXT and num_held == num_rows):
            num_held = 0
        shapes = {}
        if num_held < num_rows or num_held == 0:
            shapes[self.name] = ((num_rows - num_held, *mixture.row_shapes[self.name]), mixture.dtypes[self.name])
        if num_held:
            shapes[self.name + _INDEX] = ((num_held,), torch.int64)
        if 0 < num_held < num_rows:
            shapes[self.name + _ORDER] = ((num_rows,), torch.int64)
        return shapes

    def fill(
        self, mixture: Mixture, selection: Selection, table: DeviceTable | None, tensors: Mapping[str, Tensor]
    ) -> Iterator[StoreRows | TableRows]:
        """Write the numbers; yield the reads that are left to do."""
        held, read = np.flatnonzero(self.index >= 0), np.flatnonzero(self.index < 0)
        places = read
        if self.name + _INDEX in tensors:
            tensors[self.name + _INDEX].numpy()[:] = self.index[held]
            places = np.arange(len(read))
        elif table is not None and len(held):
            yield TableRows(tensors[self.name], self.index[held], held, table.values)
        if self.name + _ORDER in tensors:
            tensors[self.name + _ORDER].numpy()[np.concatenate([held, read])] = np.arange(len(self.index))
        if len(read):
            yield from mixture.reads(selection, self.name, self.samples[read], places, tensors[self.name])


class BatchReader:
    """Reads batches into blocks of host memory. NumPy throughout: a torch operation here would start a second pool of threads.

    Args:
        pool: threads that read; None: the one that calls.
        joined: whether rows of the placement's tables are copied into the block, too, or left to the device they are on.
    """

    def __init__(self, placement: Placement, pool: ThreadPoolExecutor | None, *, joined: bool) -> None:
        self.placement, self.pool, self.joined = placement, pool, joined

    def room_for(self, batch_size: int) -> int:
        """Bytes of a block that holds any batch of so many rows."""
        mixture, room = self.placement.mixture, dict[str, tuple[tuple[int, ...], torch.dtype]]()
        for name, shape in mixture.row_shapes.items():
            room[name] = (
                (batch_size if any(has_column(source.store, name) for source in mixture.sources) else 0, *shape),
                mixture.dtypes[name],
            )
            room |= {name + end: ((batch_size,), torch.int64) for end in (_INDEX, _ORDER)}
        return lay_out(room)[1]

    def gather(self, selection: Selection, block: Tensor) -> BatchInBuffer:
        """Fill a block. Raises: OSError for a store that cannot be read."""
        mixture, tables = self.placement.mixture, self.placement.tables
        columns = [_Column.of(mixture, selection, name, tables.get(name)) for name in mixture.row_shapes]
        shapes: Shapes = {key: shape for column in columns for key, shape in column.shapes(mixture, joined=self.joined).items()}
        regions, used = lay_out(shapes)
        tensors = {key: region.of(block) for key, region in regions.items()}
        self._run(read for column in columns for read in column.fill(mixture, selection, tables.get(column.name), tensors))
        return BatchInBuffer(selection, regions, used)

    def _run(self, reads: Iterable[StoreRows | TableRows]) -> None:
        pieces = [piece for read in reads for piece in in_pieces(read, ROWS_A_READ)]
        pieces.sort(key=num_bytes, reverse=True)  # long ones first, so that threads end together
        if self.pool is None:
            for piece in pieces:
                piece()
        else:
            for _ in self.pool.map(lambda piece: piece(), pieces):
                pass
