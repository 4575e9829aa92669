"""Raw columns of a TensorDict memmap folder: one headerless little-endian file a column, and meta.json that describes them.

Rows are read with plain positioned file access and not through a mapping: the resident memory of a process stays what it
holds on purpose, a store may be larger than memory and on a read-only disk, and a failing disk is an error, no bus fault.
"""

import json
import os
import weakref
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmaudio.base.errors import Problems, UserError

# NumPy has no bfloat16, so its two bytes travel as an integer and only `widened` gives them meaning.
_CARRIERS: dict[torch.dtype, np.dtype[Any]] = {
    torch.float32: np.dtype("<f4"),
    torch.float16: np.dtype("<f2"),
    torch.bfloat16: np.dtype("<u2"),
    torch.int32: np.dtype("<i4"),
}
_DTYPES = {str(dtype): dtype for dtype in _CARRIERS}  # that a store may have
_CARRIERS[torch.float64] = np.dtype("<f8")  # of what is added up on the way to one


def carried(tensor: Tensor) -> np.ndarray:
    """The memory of a contiguous CPU tensor as NumPy sees it: shared, not copied."""
    return (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


def widened(values: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    """Carried values of a floating dtype as float32; exact."""
    if dtype == torch.bfloat16:
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float32)


class Column:
    """One column, read a row at a time. Holds an open file until it is collected."""

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        self.name = path.stem
        self.shape = shape
        self.dtype = dtype
        self._carrier = _CARRIERS[dtype]
        self._row_bytes = int(np.prod(shape[1:])) * dtype.itemsize
        self._handle = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._handle)

    def _read(self, first: int, into: np.ndarray) -> None:
        """Fill a contiguous array from row `first` on."""
        view, at = into.data.cast("B"), first * self._row_bytes
        while len(view):
            got = os.preadv(self._handle, [view], at)
            if got == 0:
                raise OSError(f"column {self.name} ends before row {first + 1} of {self.shape[0]}: it was cut short while in use")
            view, at = view[got:], at + got

    def slice(self, start: int, stop: int) -> Tensor:
        """Copy rows start … stop - 1, (stop - start, *shape of one) in the stored dtype."""
        out = torch.empty((stop - start, *self.shape[1:]), dtype=self.dtype)
        if out.numel():
            self._read(start, carried(out))
        return out

    def copy_rows_(self, out: Tensor, rows: np.ndarray, places: np.ndarray) -> None:
        """Copy row rows[i] to out[places[i]], in ascending row order, as the disk likes it.

        Args:
            out: CPU tensor (any, *shape of one) of the stored dtype, or float32, to which values are widened.
            rows, places: int64, same length.
        Raises: IndexError for a row that is not there.
        """
        if len(rows) and not (rows.min() >= 0 and rows.max() < self.shape[0]):
            raise IndexError(f"row {int(rows.max())} of column {self.name}, which has {self.shape[0]}")
        target, same = carried(out), out.dtype == self.dtype
        row_values = np.empty(self.shape[1:], self._carrier)
        for at in np.argsort(rows, kind="stable"):
            if same:
                self._read(int(rows[at]), target[places[at]])
            else:
                self._read(int(rows[at]), row_values)
                target[places[at]] = widened(row_values, self.dtype)


def open_columns(folder: Path, name: str, *, may_be_longer: bool = False) -> dict[str, Column]:
    """Open every tensor that the meta.json of a TensorDict memmap folder lists.

    Args:
        folder: the folder.
        name: what messages call the store.
        may_be_longer: take files that hold more than meta.json says, as an append that has not ended leaves them.
    Raises: UserError for a folder or file that is missing, cut short, or of a dtype no store has.
    """
    meta_path = folder / "meta.json"
    if not meta_path.is_file():
        raise UserError(f"store {name} has no {meta_path}; check the path, or extract the store first")
    try:
        meta = json.loads(meta_path.read_text(encoding="utf-8"))
        described = {key: (tuple(entry["shape"]), entry["dtype"]) for key, entry in meta.items() if _is_tensor(entry)}
    except (ValueError, AttributeError):
        raise UserError(f"{meta_path} is not the description of a TensorDict memmap; extract store {name} again") from None
    problems, opened = Problems(), {}
    for key, (shape, dtype) in described.items():
        column = problems.check(partial(_open_column, folder / f"{key}.memmap", shape, dtype, name, may_be_longer))
        if column is not None:
            opened[key] = column
    problems.raise_any()
    return opened


def _is_tensor(entry: object) -> bool:
    return isinstance(entry, dict) and "shape" in entry and "dtype" in entry


def _open_column(path: Path, shape: tuple[int, ...], dtype: str, store: str, may_be_longer: bool) -> Column:
    if dtype not in _DTYPES:
        raise UserError(f"store {store}: column {path.stem} has dtype {dtype}; want one of {', '.join(_DTYPES)}")
    if not path.is_file():
        raise UserError(f"store {store} has no file {path}; copy it again or extract the store again")
    wanted, found = int(np.prod(shape)) * _DTYPES[dtype].itemsize, path.stat().st_size
    if found < wanted or (found > wanted and not may_be_longer):
        raise UserError(
            f"store {store}: {path.name} has {found} bytes where its meta.json says {wanted}; copy it again or extract it again"
        )
    return Column(path, shape, _DTYPES[dtype])
