"""Which of numbered things are done: a file a process, appended to as they finish and read together at the next start."""

import json
import os
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from mmaudio.base.files import sync_folder, telling

MISSING, KEPT, REJECTED = 0, 1, 2
States = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Entered:
    """What is done: a state, (things,) of MISSING, KEPT and REJECTED, and (stage, reason) of what was rejected."""

    states: States
    reasons: Mapping[int, tuple[str, str]]

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

    def files(self) -> list[Path]:
        return sorted(self._folder.glob(f"{self._name}.*.jsonl"))

    def read(self, num_things: int, *, without_rejected: bool = False) -> Entered:
        """What is done of so many things, by all processes so far. A last line that was torn by a kill says nothing.

        Args:
            without_rejected: count what was rejected as missing, so that it is tried again.
        """
        states, reasons = np.zeros(num_things, np.uint8), {}
        for path in self.files():
            lines = path.read_bytes().split(b"\n")[:-1]  # what follows the last line end is torn
            for line in map(json.loads, lines):
                states[line["kept"]] = KEPT
                for number, stage, reason in line["rejected"]:
                    reasons[number] = (stage, reason)
        for number in list(reasons):
            if states[number] == KEPT or without_rejected:  # kept by a later try
                del reasons[number]
            else:
                states[number] = REJECTED
        return Entered(states, reasons)

    def add(self, kept: Sequence[int], rejected: Mapping[int, tuple[str, str]]) -> None:
        """Enter what is done, to stay: it is on disk when this returns."""
        if self._file is None:
            name = f"{self._name}.{time.time_ns():020d}-{uuid.uuid4().hex}.jsonl"  # in order of time: the latest reason counts
            self._file = open(self._folder / name, "xb", buffering=0)  # noqa: SIM115 - closed by `close`
            sync_folder(self._folder)
        line = {"kept": list(kept), "rejected": [(number, *why) for number, why in rejected.items()]}
        left = json.dumps(line).encode() + b"\n"
        with telling(Path(self._file.name)):
            while left:
                left = left[self._file.write(left) :]
            os.fsync(self._file.fileno())

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
