"""From finished rows to their places on disk and the ledger."""

import time
from dataclasses import dataclass, field
from types import TracebackType

from mmaudio.features.encoding import Row
from mmaudio.features.ledger import Ledger
from mmaudio.store.column_files import ColumnFiles

COMMIT_EVERY_S = 1.0  # what a kill costs at most, beyond the clips being read


@dataclass
class Recorder:
    """Puts rows where they belong and, once they are safe on disk, into the ledger. A context: leaving it enters the rest."""

    files: ColumnFiles
    ledger: Ledger
    kept: list[int] = field(default_factory=list)
    rejected: dict[int, tuple[str, str]] = field(default_factory=dict)
    num_rejected: int = 0
    committed_s: float = field(default_factory=time.monotonic)

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None or not issubclass(kind, OSError):  # a disk that failed has nothing to add
            self._commit()
        self.ledger.close()

    def keep(self, number: int, row: Row) -> None:
        """Take in a row of columns, on the CPU."""
        for name, value in row.items():
            self.files.write(name, number, value[None])
        self.kept.append(number)
        self._commit_if_due()

    def reject(self, number: int, stage: str, reason: str) -> None:
        """Take in that an input cannot be used."""
        self.rejected[number] = (stage, reason)
        self.num_rejected += 1
        self._commit_if_due()

    def _commit_if_due(self) -> None:
        if time.monotonic() - self.committed_s >= COMMIT_EVERY_S:
            self._commit()

    def _commit(self) -> None:
        if self.kept or self.rejected:
            self.files.sync()  # first the rows, then that they are there: a power cut leaves no entry without its row
            self.ledger.add(self.kept, self.rejected)
            self.kept, self.rejected = [], {}
        self.committed_s = time.monotonic()
