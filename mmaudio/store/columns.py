"""Raw columns of a TensorDict memmap folder: one headerless little-endian file a column, and meta.json that describes them.

Rows are read with plain positioned file access and not through a mapping: the resident memory of a process stays what it
holds on purpose, a store may be larger than memory and on a read-only disk, and a failing disk is an error, no bus fault.
What the page cache holds is taken first; the rest is asked for all at once, so that the disk has a queue to work on.
"""

import errno
import os
import weakref
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmaudio.base.errors import Problems, UserError
from mmaudio.files.atomic import parse_json
from mmaudio.files.file_names import check_plain_name

# NumPy has no bfloat16, so its two bytes travel as an integer and only `widened` gives them meaning.
_CARRIERS: dict[torch.dtype, np.dtype[Any]] = {
    torch.float32: np.dtype("<f4"),
    torch.float16: np.dtype("<f2"),
    torch.bfloat16: np.dtype("<u2"),
    torch.int32: np.dtype("<i4"),
}
_DTYPES = {str(dtype): dtype for dtype in _CARRIERS}  # that a store may have
_CARRIERS[torch.float64] = np.dtype("<f8")  # of what is added up on the way to one
_WIDENED_AT_ONCE = 16  # rows
_CACHE_IS_UNKNOWN = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


def carried(tensor: Tensor) -> np.ndarray:
    """The memory of a contiguous CPU tensor as NumPy sees it: shared, not copied."""
    return (tensor.view(torch.uint16) if tensor.dtype == torch.bfloat16 else tensor).numpy()


def widened(values: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    """Carried values of a floating dtype as float32; exact."""
    if dtype == torch.bfloat16:
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float32)


class Column:
    """One column, read a row at a time, by any number of threads. Holds its file open until it is collected."""

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        self.name = path.stem
        self.shape = shape
        self.dtype = dtype
        self._carrier = _CARRIERS[dtype]
        self._row_bytes = int(np.prod(shape[1:])) * dtype.itemsize
        self._tells_cached = True
        self._handle = os.open(path, os.O_RDONLY)  # of blocks of rows, which the system may read on from
        self._row_handle = os.open(path, os.O_RDONLY)  # of rows here and there, around which it would read in vain
        os.posix_fadvise(self._row_handle, 0, 0, os.POSIX_FADV_RANDOM)
        for handle in (self._handle, self._row_handle):
            weakref.finalize(self, os.close, handle)

    def _read(self, handle: int, at: int, view: memoryview) -> None:
        """Fill a view from byte `at` on."""
        while len(view):
            got = os.preadv(handle, [view], at)
            if got == 0:
                row = at // self._row_bytes
                raise OSError(f"column {self.name} ends before row {row + 1} of {self.shape[0]}: it was cut short while in use")
            view, at = view[got:], at + got

    def _read_cached(self, at: int, view: memoryview) -> int:
        """Fill as much of a view as memory holds of the file, without waiting for a disk; returns the bytes."""
        if not self._tells_cached:
            return 0
        try:
            return os.preadv(self._row_handle, [view], at, os.RWF_NOWAIT)
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno not in _CACHE_IS_UNKNOWN:
                raise
            self._tells_cached = False
            return 0

    def _read_rows(self, rows: np.ndarray, targets: np.ndarray, places: np.ndarray) -> None:
        """Fill targets[places[i]] from row rows[i]; ascending rows are what a disk likes."""
        size, whole, waiting = self._row_bytes, targets.data.cast("B"), []
        for at, place in zip((rows * size).tolist(), (places * size).tolist(), strict=True):
            view = whole[place : place + size]
            got = self._read_cached(at, view)
            if got < size:
                waiting.append((at + got, view[got:]))
        for at, view in waiting:
            os.posix_fadvise(self._row_handle, at, len(view), os.POSIX_FADV_WILLNEED)
        for at, view in waiting:
            self._read(self._row_handle, at, view)

    def warm(self, buffer: np.ndarray) -> int:
        """Read the whole file once, so that the page cache holds it as far as memory goes; returns its bytes.

        Args:
            buffer: bytes to read into, overwritten again and again.
        """
        view, num_bytes = buffer.data.cast("B"), self.shape[0] * self._row_bytes
        for at in range(0, num_bytes, len(view)):
            self._read(self._handle, at, view[: num_bytes - at])
        return num_bytes

    def slice(self, start: int, stop: int) -> Tensor:
        """Copy rows start … stop - 1, (stop - start, *shape of one) in the stored dtype."""
        out = torch.empty((stop - start, *self.shape[1:]), dtype=self.dtype)
        if out.numel():
            self._read(self._handle, start * self._row_bytes, carried(out).data.cast("B"))
        return out

    def copy_rows_(self, out: Tensor, rows: np.ndarray, places: np.ndarray) -> None:
        """Copy row rows[i] to out[places[i]], in ascending row order, as the disk likes it.

        Args:
            out: CPU tensor (any, *shape of one) of the stored dtype, or float32, to which values are widened.
            rows, places: int64, same length.
        Raises: IndexError for a row that is not there.
        """
        if not len(rows):
            return
        if not (rows.min() >= 0 and rows.max() < self.shape[0]):
            raise IndexError(f"row {int(rows.max())} of column {self.name}, which has {self.shape[0]}")
        order = np.argsort(rows, kind="stable")
        rows, places, target = rows[order], places[order], carried(out)
        if out.dtype == self.dtype:
            self._read_rows(rows, target, places)
            return
        for start in range(0, len(rows), _WIDENED_AT_ONCE):
            some = slice(start, start + _WIDENED_AT_ONCE)
            narrow = np.empty((len(rows[some]), *self.shape[1:]), self._carrier)
            self._read_rows(rows[some], narrow, np.arange(len(narrow)))
            target[places[some]] = widened(narrow, self.dtype)


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
        meta = parse_json(meta_path.read_text(encoding="utf-8"))
        described = {key: (_shape(entry["shape"]), entry["dtype"]) for key, entry in meta.items() if _is_tensor(entry)}
        for key in described:
            check_plain_name("a column of meta.json", key, ".memmap")  # a store holds the files of its own folder
    except (ValueError, AttributeError, TypeError):
        raise UserError(f"{meta_path} is not the description of a TensorDict memmap; extract store {name} again") from None
    problems, opened = Problems(), {}
    for key, (shape, dtype) in described.items():
        column = problems.check(partial(_open_column, folder / f"{key}.memmap", shape, dtype, name, may_be_longer))
        if column is not None:
            opened[key] = column
    problems.raise_any()
    return opened


def _shape(told: Any) -> tuple[int, ...]:
    """Raises: ValueError where that is no shape."""
    if not isinstance(told, list) or not all(isinstance(size, int) and not isinstance(size, bool) and size >= 0 for size in told):
        raise ValueError(f"{told!r} is no shape")
    return tuple(told)


def _is_tensor(entry: object) -> bool:
    return isinstance(entry, dict) and "shape" in entry and "dtype" in entry


def _open_column(path: Path, shape: tuple[int, ...], dtype: str, store: str, may_be_longer: bool) -> Column:
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise UserError(f"store {store}: column {path.stem} has dtype {dtype}; want one of {', '.join(_DTYPES)}")
    if not path.is_file():
        raise UserError(f"store {store} has no file {path}; copy it again or extract the store again")
    wanted, found = int(np.prod(shape)) * _DTYPES[dtype].itemsize, path.stat().st_size
    if found < wanted or (found > wanted and not may_be_longer):
        raise UserError(
            f"store {store}: {path.name} has {found} bytes where its meta.json says {wanted}; copy it again or extract it again"
        )
    return Column(path, shape, _DTYPES[dtype])
