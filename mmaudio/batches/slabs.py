"""Host memory that batches are read into: one block for all columns of a batch, used again for a later one."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# Rows start where pages do: on AMD Zen 3 the kernel copies to addresses a few bytes beyond a page's start at a quarter of
# the speed (docs/performance.md, "Batches"), and NumPy's large arrays start 16 bytes beyond one.
PAGE_BYTES = 4096
Shapes = Mapping[str, tuple[tuple[int, ...], torch.dtype]]  # name → shape and dtype


@dataclass(frozen=True)
class Region:
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


def lay_out(shapes: Shapes) -> tuple[dict[str, Region], int]:
    """Regions of tensors one after another, each from a page's start on, and the bytes of all."""
    regions, end = {}, 0
    for name, (shape, dtype) in shapes.items():
        regions[name] = Region(-(-end // PAGE_BYTES) * PAGE_BYTES, shape, dtype)
        end = regions[name].stop
    return regions, end


def new_slab(num_bytes: int, *, pinned: bool = False) -> Tensor:
    """(num_bytes,) uint8 of host memory from a page's start on; `pinned`: which a GPU can read by itself."""
    if pinned:
        return torch.empty(num_bytes, dtype=torch.uint8, pin_memory=True)
    room = np.empty(num_bytes + PAGE_BYTES, dtype=np.uint8)
    start = -room.ctypes.data % PAGE_BYTES
    return torch.from_numpy(room[start : start + num_bytes])
