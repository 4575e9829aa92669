"""Which of numbered things are done: a file a process, appended to as they finish and read together at the next start."""

import json
import os
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from mmaudio.base.errors import UserError
from mmaudio.base.files import sync_folder, telling
from mmaudio.features.stamps import UNKNOWN, Stamp

MISSING, KEPT, REJECTED = 0, 1, 2
States = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Entered:
    """What is done: a state, (things,) of MISSING, KEPT and REJECTED, and (stage, reason) of what was rejected.

    `stamps` (things, 2) are those of the files that what is done was made of; UNKNOWN where none was entered. `latest` is the
    time of the last ledger.
    """

    states: States
    reasons: Mapping[int, tuple[str, str]]
    stamps: npt.NDArray[np.int64]
    latest: int = 0

    @property
    def is_kept(self) -> npt.NDArray[np.bool_]:
        return self.states == KEPT

    @property
    def num_missing(self) -> int:
        return int((self.states == MISSING).sum())


class Ledger:
    """The ledger of one kind of thing in a folder. Each process adds to a file of its own, which it makes when it has something to say."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self._file: IO[bytes] | None = None
        self._latest = 0

    def follow(self, latest: int) -> None:
        """Let what is added from now on count as later than the ledger of that time, also where another machine's clock is ahead."""
        self._latest = max(self._latest, latest)

    def files(self) -> list[Path]:
        return sorted(self._folder.glob(f"{self._name}.*.jsonl"))

    def read(self, num_things: int, *, without_rejected: bool = False) -> Entered:
        """What is done of so many things, by all processes so far. A last line that was torn by a kill says nothing.

        Args:
            without_rejected: count what was rejected as missing, so that it is tried again.
        Raises: UserError naming a line that no extraction writes.
        """
        states, reasons = np.zeros(num_things, np.uint8), {}
        stamps = np.full((num_things, 2), UNKNOWN, np.int64)
        for where, line in self._lines():
            try:
                states[line.get("forgotten", [])] = MISSING
                states[line["kept"]] = KEPT
                for number, stage, reason in line["rejected"]:
                    states[number], reasons[number] = REJECTED, (stage, reason)
                if line.get("stamps"):
                    noted = np.array(line["stamps"], np.int64)
                    stamps[noted[:, 0]] = noted[:, 1:]
            except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError):
                raise _not_an_entry(where) from None
        if without_rejected:
            states[states == REJECTED] = MISSING
        self.follow(max((_time_of(path) for path in self.files()), default=0))
        rejected = {number: why for number, why in reasons.items() if states[number] == REJECTED}
        return Entered(states, rejected, stamps, self._latest)

    def _lines(self) -> Iterator[tuple[str, Any]]:
        """Every entry in order of time, and what messages call its line."""
        for path in self.files():
            for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):  # what follows the last line end is torn
                where = f"{path}, line {number}"
                try:
                    yield where, json.loads(line)
                except ValueError:
                    raise _not_an_entry(where) from None

    def add(
        self,
        kept: Sequence[int],
        rejected: Mapping[int, tuple[str, str]],
        stamps: Mapping[int, Stamp] | None = None,
        forgotten: Sequence[int] = (),
    ) -> None:
        """Enter what is done, to stay: it is on disk when this returns.

        Args:
            stamps: of the files of what is entered.
            forgotten: what counts as missing from now on, whatever was entered before.
        """
        if self._file is None:
            now = max(time.time_ns(), self._latest + 1)  # ledgers are read in order of time: what was entered last counts
            path = self._folder / f"{self._name}.{now:020d}-{uuid.uuid4().hex}.jsonl"
            self._file = open(path, "xb", buffering=0)  # noqa: SIM115 - closed by `close`
            sync_folder(self._folder)
        line: dict[str, Any] = {"kept": list(kept), "rejected": [(number, *why) for number, why in rejected.items()]}
        line |= {"stamps": [(number, *stamp) for number, stamp in stamps.items()]} if stamps else {}
        line |= {"forgotten": list(forgotten)} if forgotten else {}
        left = json.dumps(line).encode() + b"\n"
        with telling(Path(self._file.name)):
            while left:
                left = left[self._file.write(left) :]
            os.fsync(self._file.fileno())

    def forget(self, numbers: Sequence[int]) -> None:
        """Enter that these things are to be done again."""
        with closing(self):
            self.add([], {}, forgotten=numbers)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _time_of(path: Path) -> int:
    digits = path.name.split(".")[1].split("-")[0]
    return int(digits) if digits.isdecimal() else 0


def _not_an_entry(where: str) -> UserError:
    folder = Path(where).parent
    return UserError(f"{where} is no entry of an extraction; put the file back as it was, or remove {folder} to start anew")
