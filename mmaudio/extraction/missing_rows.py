"""Rows that are entered as done and that their columns no longer hold: found by their fingerprints, forgotten, and made again.

A column file that was removed or cut while an extraction was stopped is reserved again in full, and then holds zeros.
"""

import hashlib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from mmaudio.base.errors import UserError, named
from mmaudio.extraction.inputs import GONE, file_stamp
from mmaudio.extraction.job import Job
from mmaudio.extraction.progress import UNMARKED, Progress
from mmaudio.extraction.workspace import CLOSING, MOMENTS, Columns
from mmaudio.media.audio import MediaError
from mmaudio.media.prefetch import prefetch_files
from mmaudio.store.column_writer import column_path, fingerprint_spans, has_closed_gaps, mark_closed, open_gaps, row_bytes, row_fingerprint

log = logging.getLogger(__name__)
_ROWS_AT_ONCE = 256  # that a thread is handed
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Lost:
    """Which things are lost, and in which columns."""

    numbers: list[int]
    columns: list[str]

    def sentence(self, folder: Path) -> str:
        names = ", ".join(f"{name}.memmap" for name in self.columns)
        return f"{names} in {folder} no longer {'holds' if len(self.columns) == 1 else 'hold'} their rows"


def kept_hash(done: Progress) -> str:
    """A hash of which rows are kept."""
    return hashlib.sha256(done.is_kept.tobytes()).hexdigest()[:16]


def forget_lost_rows(job: Job, done: Progress, num_captions: int) -> bool:
    """Forget the rows that are done and that the columns no longer hold, and say so. Returns: whether what is done is now another.

    Where rows are final already, they are put back to the places of their inputs first, to become final once more.

    Args:
        num_captions: at most, as in `Workspace.start`.
    Raises: UserError where a final row is lost and the file it was made of is gone; or where the disk has not enough room.
    """
    work, is_final = job.work, job.work.stage == CLOSING
    if is_final:
        _mark_closed_by_length(job, done)
    lost = _find_lost(work.folder, work.row_columns(), done, job.num_workers, is_known=work.kept_hash in (None, kept_hash(done)))
    if not lost.numbers and not (is_final and done.num_missing):
        return False
    if is_final:
        _check_inputs_there(job, lost)
        work.captions.remove()  # their numbers are of the captions of the rows that are kept
        for name, (shape, dtype) in work.row_columns().items():
            open_gaps(column_path(work.folder, name), row_bytes(shape, dtype), done.is_kept)
    if lost.numbers:
        work.rows.forget(lost.numbers)
        ids = named([job.inputs.items[number].id for number in lost.numbers])
        words = len(lost.numbers), len(job.inputs.items), ids, lost.sentence(work.folder)
        log.warning("%d of %d inputs (%s) are done again: %s", *words)
    work.reopen(num_captions)
    return True


def _mark_closed_by_length(job: Job, done: Progress) -> None:
    """Note which columns have closed gaps where the version before closed them, by whose rule their length says so."""
    num_kept = int(done.is_kept.sum())
    if num_kept == len(done.states) or np.any(done.fingerprints[done.is_kept] != UNMARKED):
        return
    for name, (shape, dtype) in job.work.row_columns().items():
        path = column_path(job.work.folder, name)
        if path.is_file() and path.stat().st_size == num_kept * row_bytes(shape, dtype):
            mark_closed(path, True)


def _check_inputs_there(job: Job, lost: Lost) -> None:
    gone = [item for item in (job.inputs.items[number] for number in lost.numbers) if file_stamp(job.inputs.path(item)) == GONE]
    if gone:
        what = f"the files of {len(gone)} of the rows ({named([item.id for item in gone])}) are gone from {job.inputs.data_dir}"
        advice = f"bring them back, or remove {job.work.folder} to start anew without them"
        raise UserError(f"{lost.sentence(job.work.folder)}, which have to be made again, and {what}; {advice}")


def captions_done(job: Job, captions: Sequence[str]) -> Progress:
    """Which of these captions are encoded. Those whose features their table no longer holds are forgotten, and that is said.

    Raises: UserError where the disk has not enough room.
    """
    work, count = job.work, len(captions)
    done = work.captions.read(count)
    lost = _find_lost(work.folder, work.caption_columns(count), done, job.num_workers)
    work.reserve_captions(count)
    if not lost.numbers:
        return done
    work.captions.forget(lost.numbers)
    words = len(lost.numbers), count, named([captions[number] for number in lost.numbers]), lost.sentence(work.folder)
    log.warning("%d of %d captions (%s) are encoded again: %s", *words)
    return work.captions.read(count)


def _find_lost(folder: Path, columns: Columns, done: Progress, num_workers: int, *, is_known: bool = True) -> Lost:
    """What is kept and not held.

    Args:
        is_known: whether `done` says which rows were kept when gaps were closed, and with it where they stand since.
    """
    numbers = np.flatnonzero(done.is_kept)
    is_lost, names = np.zeros(len(numbers), bool), list[str]()
    for at, (name, (shape, dtype)) in enumerate(columns.items()):
        path = column_path(folder, name)
        is_closed = has_closed_gaps(path)
        places, num_rows = (np.arange(len(numbers)), len(numbers)) if is_closed else (numbers, shape[0])
        if is_closed and not is_known:
            holds = np.zeros(len(numbers), bool)
        else:
            holds = _Column(path, shape, dtype, num_rows).holds(places, done.fingerprints[numbers, at], num_workers)
        is_lost |= ~holds
        names += [] if holds.all() else [name]
    return Lost(numbers[is_lost].tolist(), names)


class _Column:
    """A column file as it is found, to be one of so many rows."""

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: torch.dtype, num_rows: int) -> None:
        self._path = path
        self._row_bytes, self._spans = row_bytes(shape, dtype), fingerprint_spans(shape, dtype)
        self._num_never_zero = 1 if path.stem == MOMENTS else len(self._spans)  # nothing may deviate from the mean of a row
        self._is_whole = path.is_file() and path.stat().st_size >= num_rows * self._row_bytes

    def holds(self, places: npt.NDArray[np.int64], wanted: npt.NDArray[np.int64], num_workers: int) -> Bools:
        """Whether a row stands at each place, (rows,) bool.

        Args:
            wanted: fingerprints, (rows,). A row that the version before wrote has none: of those a file that is whole holds what
                is not zeros, and one that was cut none.
        """
        if not len(places) or not self._path.is_file():
            return np.zeros(len(places), bool)
        handle = os.open(self._path, os.O_RDONLY)
        try:
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_RANDOM)

            def look(start: int) -> list[bool]:
                some = slice(start, start + _ROWS_AT_ONCE)
                return [self._holds(handle, *each) for each in zip(places[some].tolist(), wanted[some].tolist(), strict=True)]

            found: list[bool] = []
            for _, holds in prefetch_files(look, range(0, len(places), _ROWS_AT_ONCE), num_workers):
                assert not isinstance(holds, MediaError)
                found += holds
        finally:
            os.close(handle)
        return np.array(found)

    def _holds(self, handle: int, place: int, wanted: int) -> bool:
        at = place * self._row_bytes
        pieces = [os.pread(handle, stop - start, at + start) for start, stop in self._spans]
        if any(len(piece) < stop - start for piece, (start, stop) in zip(pieces, self._spans, strict=True)):
            return False
        if wanted != UNMARKED:
            return row_fingerprint(pieces) == wanted
        return self._is_whole and all(any(piece) for piece in pieces[: self._num_never_zero])
