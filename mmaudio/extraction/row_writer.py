"""From finished rows to their places on disk and the progress log, with a fingerprint of what was written there."""

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from mmaudio.extraction.inputs import Stamp
from mmaudio.extraction.progress import ProgressLog
from mmaudio.extraction.reading import Row
from mmaudio.store.column_writer import ColumnWriter

COMMIT_EVERY_S = 1.0  # what a kill costs at most, beyond the clips being read and the entry being made


class RowWriter:
    """Puts rows where they belong and, once they are safe on disk, into the progress log. A context: leaving it enters the rest.

    A thread waits for the disk meanwhile, so that the next rows are not kept waiting.
    """

    def __init__(self, files: ColumnWriter, progress_log: ProgressLog) -> None:
        self.num_rejected = 0
        self._files, self._progress_log = files, progress_log
        self._kept: dict[int, list[int]] = {}  # number → fingerprint of each column of its row
        self._rejected: dict[int, tuple[str, str]] = {}
        self._stamps: dict[int, Stamp] = {}
        self._committed_s = time.monotonic()
        self._thread = ThreadPoolExecutor(1, "ledger")
        self._entering: Future[None] | None = None

    def __enter__(self) -> "RowWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        try:
            self._commit()
            self._wait()
        except OSError:
            if kind is None:  # else it says no more than what ends the block
                raise
        finally:
            self._thread.shutdown()
            self._progress_log.close()

    def keep(self, number: int, row: Row, stamp: Stamp | None = None) -> None:
        """Take in a row of columns, on the CPU. Raises: as `ColumnWriter.write`; then it is not taken in.

        Args:
            stamp: of the file that it was made of, if it was one.
        """
        found = {name: self._files.write_row(name, number, value) for name, value in row.items()}
        self._kept[number] = [found[name] for name in self._files.names]
        self._note(number, stamp)
        self._commit_if_due()

    def reject(self, number: int, stage: str, reason: str, stamp: Stamp) -> None:
        """Take in that an input cannot be used, of a file of this stamp."""
        self._rejected[number] = (stage, reason)
        self._note(number, stamp)
        self.num_rejected += 1
        self._commit_if_due()

    def _note(self, number: int, stamp: Stamp | None) -> None:
        if stamp is not None:
            self._stamps[number] = stamp

    def _commit_if_due(self) -> None:
        if time.monotonic() - self._committed_s >= COMMIT_EVERY_S:
            self._commit()

    def _commit(self) -> None:
        """Have what is done so far entered. Raises: OSError of the disk, now or from the time before."""
        self._wait()
        if self._kept or self._rejected:
            self._entering = self._thread.submit(self._enter, self._kept, self._rejected, self._stamps)
            self._kept, self._rejected, self._stamps = {}, {}, {}
        self._committed_s = time.monotonic()

    def _enter(self, kept: Mapping[int, Sequence[int]], rejected: Mapping[int, tuple[str, str]], stamps: Mapping[int, Stamp]) -> None:
        self._files.sync()  # first the rows, then that they are there: a power cut leaves no entry without its row
        self._progress_log.add(list(kept), rejected, stamps, fingerprints=kept)

    def _wait(self) -> None:
        if self._entering is not None:
            self._entering.result()
            self._entering = None
