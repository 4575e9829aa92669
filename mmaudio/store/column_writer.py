"""Column files while they are written: reserved in full, filled at any row by any process, closed up, handed over.

Every block of the disk is allocated first, so that a full disk is an error before the work and not a torn row, or a bus
fault of a reader's mapping, in the middle of it. Each row that is written has a fingerprint, which tells later at the cost
of a short read whether the row is still there: a file that was removed or cut is reserved again, and full of zeros.
"""

import errno
import logging
import math
import os
import shutil
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from torch import Tensor

from mmaudio.base.errors import UserError
from mmaudio.files.atomic import sync_folder
from mmaudio.files.tensor_files import all_finite
from mmaudio.store.columns import carried

log = logging.getLogger(__name__)
Shapes = Mapping[str, tuple[int, ...]]  # column → shape of the whole column, rows first
Dtypes = Mapping[str, torch.dtype]
COPIED_AT_ONCE = 1 << 24  # bytes
HEAD_BYTES = 64  # of a row that its fingerprint covers, beside its last token
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_CANNOT_RESERVE = (errno.EBADF, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


def column_path(folder: Path, name: str) -> Path:
    return folder / f"{name}.memmap"


def row_bytes(shape: tuple[int, ...], dtype: torch.dtype) -> int:
    """Bytes of one row of a column of this whole shape."""
    return math.prod(shape[1:]) * dtype.itemsize


def column_bytes(shape: tuple[int, ...], dtype: torch.dtype) -> int:
    return shape[0] * row_bytes(shape, dtype)


def describe_columns(folder: Path, shapes: Shapes, dtypes: Dtypes) -> None:
    """Write TensorDict's own meta.json of these columns, in their order, and files of holes where no column is yet."""
    # Imported by who writes only: it takes seconds, and sets an environment variable.
    from tensordict import TensorDict

    blank = {name: torch.empty((), dtype=dtypes[name]).expand(shape) for name, shape in shapes.items()}
    TensorDict(blank, [], device="cpu").memmap_like(folder)
    # Mapped files are made for their owner alone; a store is as readable as any other file.
    readable = (folder / "meta.json").stat().st_mode & 0o777
    for name in shapes:
        column_path(folder, name).chmod(readable)


def reserve_bytes(sizes: Mapping[Path, int]) -> None:
    """Make each file so long, with its blocks allocated; what files hold already is kept.

    Raises: UserError where the disk has not enough room left; files that are new are then removed again.
    """
    new = [path for path in sizes if not path.exists()]
    allocated = sum(min(size, path.stat().st_blocks * 512) for path, size in sizes.items() if path.exists())
    folder = next(iter(sizes)).parent
    missing, free = sum(sizes.values()) - allocated, shutil.disk_usage(folder).free
    try:
        if missing > free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        for path, size in sizes.items():
            with open(path, "ab") as file:  # to append: else a file system that cannot is filled page by page instead of refusing
                if size:  # the call refuses none
                    _allocate(file.fileno(), size, path)
    except OSError as error:
        for path in new:
            path.unlink(missing_ok=True)
        if error.errno not in _FULL:
            raise
        found = f"{folder} needs {_told(missing)} more and its disk has {_told(free)} left"
        raise UserError(f"{found}; make room and run again") from None


def _allocate(handle: int, num_bytes: int, path: Path) -> None:
    try:
        os.posix_fallocate(handle, 0, num_bytes)
    except OSError as error:
        if error.errno not in _CANNOT_RESERVE:
            raise
        log.warning("the file system of %s reserves no room: see to it that %s stay free", path.parent, _told(num_bytes))
        if os.fstat(handle).st_size < num_bytes:
            os.ftruncate(handle, num_bytes)


def _told(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.1f} MB"


def reserve_columns(folder: Path, shapes: Shapes, dtypes: Dtypes) -> None:
    """Reserve the file of every column. Raises: as `reserve_bytes`."""
    reserve_bytes({column_path(folder, name): column_bytes(shape, dtypes[name]) for name, shape in shapes.items()})


def fingerprint_spans(shape: tuple[int, ...], dtype: torch.dtype) -> list[tuple[int, int]]:
    """(start, stop) of the bytes of a row that its fingerprint covers: the first ones, and its last token.

    What cuts a file, or begins it anew, takes the end of a row or all of it.

    Args:
        shape: of the whole column, (rows, tokens, …).
    """
    row, token = row_bytes(shape, dtype), math.prod(shape[2:]) * dtype.itemsize
    return [(0, row)] if row <= HEAD_BYTES + token else [(0, HEAD_BYTES), (row - token, row)]


def row_fingerprint(pieces: Sequence[bytes | memoryview]) -> int:
    """The fingerprint of a row, 32 bits, of the bytes at its spans."""
    checksum = 0
    for piece in pieces:
        checksum = zlib.crc32(piece, checksum)
    return checksum


class NotFiniteError(ValueError):
    """Rows hold infinite numbers, or none, in the dtype they are to be stored in."""


class ColumnWriter:
    """Reserved columns, open for writing. A context: leaving it closes the files."""

    def __init__(self, folder: Path, shapes: Shapes, dtypes: Dtypes) -> None:
        self._shapes, self._dtypes = dict(shapes), dict(dtypes)
        self._num_appended = dict.fromkeys(shapes, 0)
        self._handles = {name: os.open(column_path(folder, name), os.O_WRONLY) for name in shapes}

    @property
    def names(self) -> list[str]:
        """The columns, in order."""
        return list(self._shapes)

    @classmethod
    def reserved(cls, folder: Path, shapes: Shapes, dtypes: Dtypes) -> "ColumnWriter":
        """Open files of full size, made or made so long where they are not. Raises: UserError where the disk has no room."""
        reserve_columns(folder, shapes, dtypes)
        return cls(folder, shapes, dtypes)

    @classmethod
    def new(cls, folder: Path, shapes: Shapes, dtypes: Dtypes) -> "ColumnWriter":
        """Lay out meta.json and files of full size in an existing folder.

        Raises: UserError where the disk has not enough room left.
        """
        describe_columns(folder, shapes, dtypes)
        try:
            reserve_columns(folder, shapes, dtypes)
        except UserError:
            for name in shapes:
                column_path(folder, name).unlink()
            (folder / "meta.json").unlink()
            raise
        return cls(folder, shapes, dtypes)

    def __enter__(self) -> "ColumnWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        for handle in self._handles.values():
            os.close(handle)

    def write_row(self, name: str, number: int, row: Tensor) -> int:
        """Write one row, (tokens, …), as `write` does, and return its fingerprint."""
        view = self.write(name, number, row[None])
        return row_fingerprint([view[start:stop] for start, stop in fingerprint_spans(self._shapes[name], self._dtypes[name])])

    def write(self, name: str, first: int, rows: Tensor) -> memoryview:
        """Write rows, (rows, *shape of one), from row `first` on, in the column's dtype. Returns: the bytes that were written.

        Raises: ValueError for another row shape or rows beyond the column; NotFiniteError for a number that is not finite in
            its dtype.
        """
        shape, dtype = self._shapes[name], self._dtypes[name]
        if tuple(rows.shape[1:]) != shape[1:]:
            raise ValueError(f"rows of {name} have shape {tuple(rows.shape[1:])}; want {shape[1:]}")
        if not 0 <= first <= shape[0] - len(rows):
            raise ValueError(f"rows {first} to {first + len(rows)} of {name}, which has {shape[0]}")
        values = rows.detach().to("cpu", dtype).contiguous()
        if dtype.is_floating_point and not all_finite(values):
            raise NotFiniteError(f"{name} holds values that are not finite as {dtype}")
        view = carried(values).data.cast("B") if values.numel() else memoryview(b"")
        _write_at(self._handles[name], view, first * row_bytes(shape, dtype))
        return view

    def append(self, name: str, rows: Tensor) -> None:
        """Write rows after those appended so far. Raises: as `write`."""
        self.write(name, self._num_appended[name], rows)
        self._num_appended[name] += len(rows)

    def sync(self) -> None:
        """Return when what was written so far survives a power cut."""
        for handle in self._handles.values():
            os.fdatasync(handle)


def _write_at(handle: int, view: memoryview, at: int) -> None:
    while len(view):
        done = os.pwrite(handle, view, at)
        view, at = view[done:], at + done


def copy_bytes(source: int, source_at: int, target: int, target_at: int, count: int) -> None:
    """Copy between open files in bounded memory. Raises: OSError, also for a source that ends before."""
    buffer = memoryview(bytearray(min(count, COPIED_AT_ONCE)))
    while count:
        got = os.preadv(source, [buffer[: min(count, len(buffer))]], source_at)
        if got == 0:
            raise OSError(errno.EIO, "a column ends before its last row")
        _write_at(target, buffer[:got], target_at)
        source_at, target_at, count = source_at + got, target_at + got, count - got


def _gap_files(path: Path) -> tuple[Path, Path, Path]:
    """Beside a column: what says that its gaps are closed, and its rows while their gaps are being closed, and opened again."""
    return path.with_suffix(".closed"), path.with_name(f".{path.name}.closed"), path.with_name(f".{path.name}.opened")


def files_of_column(path: Path) -> list[Path]:
    """All files that a column may consist of while it is made."""
    return [path, *_gap_files(path)]


def has_closed_gaps(path: Path) -> bool:
    """Whether the gaps of a column are closed. What a kill interrupted is undone, or done to its end, first."""
    mark, closing, opening = _gap_files(path)
    if closing.exists():  # it replaces the column after the mark is made
        mark.unlink(missing_ok=True)
        closing.unlink()
    if opening.exists() and mark.exists():
        opening.unlink()
    elif opening.exists():  # it is whole: the mark was removed after that
        os.replace(opening, path)
    return mark.exists()


def mark_closed(path: Path, is_closed: bool) -> None:
    """Note that the gaps of a column are closed, or that they are not."""
    mark, _, _ = _gap_files(path)
    if is_closed:
        mark.touch()
    else:
        mark.unlink(missing_ok=True)
    sync_folder(path.parent)


def close_gaps(path: Path, bytes_per_row: int, is_kept: np.ndarray) -> None:
    """Leave only the rows of a column that are kept, in order; (rows,) bool. Killed at any moment, it is as before or done.

    A column without gaps is left alone, and so is one whose gaps were closed before.
    """
    if is_kept.all() or has_closed_gaps(path):
        return
    _, closing, _ = _gap_files(path)
    at, moves = 0, list[tuple[int, int, int]]()
    for start, stop in _stretches(is_kept):
        moves.append((start, at, stop - start))
        at += stop - start
    _copy_rows(path, closing, bytes_per_row, at, moves)
    mark_closed(path, True)
    os.replace(closing, path)
    sync_folder(path.parent)


def open_gaps(path: Path, bytes_per_row: int, is_kept: np.ndarray) -> None:
    """Put the rows of a column whose gaps were closed back to their places. Killed at any moment, it is as before or done.

    Rows that the file does not hold whole, because it was cut, are left out.
    """
    if not has_closed_gaps(path):
        return
    _, _, opening = _gap_files(path)
    num_whole = path.stat().st_size // bytes_per_row if path.exists() else 0
    at, moves = 0, list[tuple[int, int, int]]()
    for start, stop in _stretches(is_kept):
        count = min(stop - start, num_whole - at)
        if count > 0:
            moves.append((at, start, count))
        at += stop - start
    if moves:
        _copy_rows(path, opening, bytes_per_row, len(is_kept), moves)
    else:
        path.unlink(missing_ok=True)
    mark_closed(path, False)
    if moves:
        os.replace(opening, path)
        sync_folder(path.parent)


def _stretches(is_kept: np.ndarray) -> list[tuple[int, int]]:
    """(start, stop) of rows in succession that are kept."""
    edges = np.flatnonzero(np.diff(is_kept.astype(np.int8), prepend=0, append=0))
    return [(int(start), int(stop)) for start, stop in edges.reshape(-1, 2)]


def _copy_rows(source: Path, target: Path, bytes_per_row: int, num_rows: int, moves: Sequence[tuple[int, int, int]]) -> None:
    """Make a file of so many rows that has rows of another one (from, to, how many), and zeros elsewhere; it is on disk then."""
    reserve_bytes({target: num_rows * bytes_per_row})
    from_handle, to_handle = os.open(source, os.O_RDONLY), os.open(target, os.O_WRONLY)
    try:
        for start, to, count in moves:
            copy_bytes(from_handle, start * bytes_per_row, to_handle, to * bytes_per_row, count * bytes_per_row)
        os.fsync(to_handle)
    finally:
        os.close(from_handle)
        os.close(to_handle)


def shorten(path: Path, num_bytes: int) -> None:
    """Cut a column that was reserved for more than came; one that is no longer than this is left alone."""
    if path.exists() and path.stat().st_size > num_bytes:
        os.truncate(path, num_bytes)


def link_or_copy(source: Path, target: Path) -> None:
    """Let a file stand at `target`, too: the same blocks where the file system can, a copy elsewhere."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        append_file(source, target, 0)


def append_file(source: Path, target: Path, at: int) -> None:
    """Put the bytes of one file into another from `at` on, which it then ends with. Raises: UserError for a full disk."""
    count = source.stat().st_size
    reserve_bytes({target: at + count})
    from_handle, to_handle = os.open(source, os.O_RDONLY), os.open(target, os.O_WRONLY)
    try:
        copy_bytes(from_handle, 0, to_handle, at, count)
        os.ftruncate(to_handle, at + count)
        os.fsync(to_handle)
    finally:
        os.close(from_handle)
        os.close(to_handle)
