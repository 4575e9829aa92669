"""ProgressLog: what is done, what failed, how many may, and what changed since."""

import json
import os
import re
import time
import uuid
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from mmaudio.base.errors import RejectsError, UserError
from mmaudio.extraction.inputs import GONE, UNKNOWN, Inputs, Stamp, file_stamp
from mmaudio.files.atomic import disk_errors_told, parse_json, sync_folder
from mmaudio.media.audio import MediaError
from mmaudio.media.prefetch import prefetch_files

# ---- What is done: a file a process, appended to as rows finish, and read together at the next start

MISSING, KEPT, REJECTED = 0, 1, 2
UNMARKED = -1  # in place of a fingerprint: none was entered
States = npt.NDArray[np.uint8]
_OF_BOTH_VERSIONS, _OPTIONAL = {"kept", "rejected"}, {"stamps", "forgotten", "fingerprints", "crc32"}
_INT64 = 1 << 63
_TIME = re.compile(r"[0-9]{1,20}")


@dataclass(frozen=True)
class Progress:
    """What is done: a state, (things,) of MISSING, KEPT and REJECTED, and (stage, reason) of what was rejected.

    `stamps` (things, 2) are those of the files that what is done was made of; UNKNOWN where none was entered. `fingerprints`
    (things, columns) are those of the rows on disk; UNMARKED where none were entered. `latest` is the time of the last progress log.
    """

    states: States
    reasons: Mapping[int, tuple[str, str]]
    stamps: npt.NDArray[np.int64]
    fingerprints: npt.NDArray[np.int64]
    latest: int = 0

    @property
    def is_kept(self) -> npt.NDArray[np.bool_]:
        return self.states == KEPT

    @property
    def num_missing(self) -> int:
        return int((self.states == MISSING).sum())


class ProgressLog:
    """The progress log of one kind of thing in a folder. Each process adds to a file of its own, made with its first line.

    Args:
        num_columns: of a row, each with a fingerprint.
        may_reject: whether such a thing can be rejected.
    """

    def __init__(self, folder: Path, name: str, num_columns: int = 1, *, may_reject: bool = True) -> None:
        self._folder, self._name = folder, name
        self._num_columns, self._may_reject = num_columns, may_reject
        self._file: IO[bytes] | None = None
        self._latest = 0

    def follow(self, latest: int) -> None:
        """Let what is added from now on count as later than the progress log of that time, also where another machine's clock is ahead."""
        self._latest = max(self._latest, latest)

    def files(self) -> list[Path]:
        return sorted(self._folder.glob(f"{self._name}.*.jsonl"))

    def read(self, num_things: int, *, without_rejected: bool = False) -> Progress:
        """What is done of so many things, by all processes so far. A last line that was torn by a kill says nothing.

        Args:
            without_rejected: count what was rejected as missing, so that it is tried again.
        Raises: UserError naming a line, or a file, that no extraction writes.
        """
        states, reasons = np.zeros(num_things, np.uint8), dict[int, tuple[str, str]]()
        stamps = np.full((num_things, 2), UNKNOWN, np.int64)
        fingerprints = np.full((num_things, self._num_columns), UNMARKED, np.int64)
        latest = max((_time_of(path) for path in self.files()), default=0)
        for where, line in self._lines():
            if not self._is_entry(line, num_things):
                raise _not_an_entry(where)
            states[line.get("forgotten", [])] = MISSING
            states[line["kept"]] = KEPT
            fingerprints[line["kept"]] = UNMARKED
            for number, stage, reason in line["rejected"]:
                states[number], reasons[number] = REJECTED, (stage, reason)
            for name, into in (("stamps", stamps), ("fingerprints", fingerprints)):
                if line.get(name):
                    noted = np.array(line[name], np.int64)
                    into[noted[:, 0]] = noted[:, 1:]
        if without_rejected:
            states[states == REJECTED] = MISSING
        self.follow(latest)
        rejected = {number: why for number, why in reasons.items() if states[number] == REJECTED}
        return Progress(states, rejected, stamps, fingerprints, self._latest)

    def _lines(self) -> Iterator[tuple[str, Any]]:
        """Every entry in order of time, and what messages call its line."""
        for path in self.files():
            for number, line in enumerate(path.read_bytes().split(b"\n")[:-1], 1):  # what follows the last line end is torn
                where = f"{path}, line {number}"
                try:
                    yield where, parse_json(line)
                except ValueError:
                    raise _not_an_entry(where) from None

    def _is_entry(self, line: Any, num_things: int) -> bool:
        """Whether a line is what `add` writes of so many things, in this version or the one before, which wrote fewer keys."""
        if not isinstance(line, dict) or not _OF_BOTH_VERSIONS <= set(line) <= _OF_BOTH_VERSIONS | _OPTIONAL:
            return False
        if "crc32" in line and line["crc32"] != _checksum({key: value for key, value in line.items() if key != "crc32"}):
            return False
        rejected = line["rejected"]
        if not isinstance(rejected, list) or (rejected and not self._may_reject):
            return False
        if not all(isinstance(why, list) and len(why) == 3 and all(isinstance(text, str) for text in why[1:]) for why in rejected):
            return False
        entered = [why[0] for why in rejected]
        numbers = (line["kept"], entered, line.get("forgotten", []))
        noted = (
            _are_numbers(line.get("stamps", []), 3, _INT64),
            _are_numbers(line.get("fingerprints", []), 1 + self._num_columns, 1 << 32),
        )
        if not all(noted) or not all(isinstance(some, list) for some in numbers):
            return False
        numbers = (*numbers, *([one[0] for one in line.get(name, [])] for name in ("stamps", "fingerprints")))
        if not all(type(number) is int and 0 <= number < num_things for some in numbers for number in some):
            return False
        is_once = len({*line["kept"], *entered}) == len(line["kept"]) + len(entered)
        return is_once and {one[0] for one in line.get("fingerprints", [])} <= set(line["kept"])

    def add(
        self,
        kept: Sequence[int],
        rejected: Mapping[int, tuple[str, str]],
        stamps: Mapping[int, Stamp] | None = None,
        forgotten: Sequence[int] = (),
        fingerprints: Mapping[int, Sequence[int]] | None = None,
    ) -> None:
        """Enter what is done, to stay: it is on disk when this returns.

        Args:
            stamps: of the files of what is entered.
            forgotten: what counts as missing from now on, whatever was entered before.
            fingerprints: of what is kept, one of each column of its row on disk.
        """
        if self._file is None:
            now = max(time.time_ns(), self._latest + 1)  # progress logs are read in order of time: what was entered last counts
            path = self._folder / f"{self._name}.{now:020d}-{uuid.uuid4().hex}.jsonl"
            self._file = open(path, "xb", buffering=0)  # noqa: SIM115 - closed by `close`
            sync_folder(self._folder)
        line: dict[str, Any] = {"kept": list(kept), "rejected": [[number, *why] for number, why in rejected.items()]}
        line |= {"stamps": [[number, *stamp] for number, stamp in stamps.items()]} if stamps else {}
        line |= {"forgotten": list(forgotten)} if forgotten else {}
        line |= {"fingerprints": [[number, *each] for number, each in fingerprints.items()]} if fingerprints else {}
        left = json.dumps(line | {"crc32": _checksum(line)}).encode() + b"\n"
        with disk_errors_told(Path(self._file.name)):
            while left:
                left = left[self._file.write(left) :]
            os.fsync(self._file.fileno())

    def forget(self, numbers: Sequence[int]) -> None:
        """Enter that these things are to be done again."""
        with closing(self):
            self.add([], {}, forgotten=numbers)

    def remove(self) -> None:
        """Delete all entries."""
        for path in self.files():
            path.unlink(missing_ok=True)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _are_numbers(rows: Any, width: int, limit: int) -> bool:
    """Whether these are rows of so many whole numbers, none of an absolute value of `limit` or more."""
    if not isinstance(rows, list) or not all(isinstance(row, list) and len(row) == width for row in rows):
        return False
    return all(type(number) is int and -limit < number < limit for row in rows for number in row)


def _checksum(line: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(line, sort_keys=True).encode())


def _time_of(path: Path) -> int:
    """When a progress log was begun, in nanoseconds, by its name. Raises: UserError for a name that no extraction gives."""
    digits = path.name.split(".")[1].split("-")[0]
    if not _TIME.fullmatch(digits) or int(digits) >= _INT64:
        raise UserError(f"{path} is no ledger of an extraction; move it out of {path.parent}")
    return int(digits)


def _not_an_entry(where: str) -> UserError:
    folder = Path(where).parent
    return UserError(f"{where} is no entry of an extraction; put the file back as it was, or remove {folder} to start anew")


_FILES_AT_ONCE = 64  # that a thread is handed, so that handing over costs little


def changed_inputs(inputs: Inputs, done: Progress, num_workers: int) -> list[int]:
    """Numbers of inputs that are done and whose file is another one now; each file is looked at once, in threads.

    A row whose file is gone stays: nothing could be put in its place. What was rejected may have another reason then.
    """
    of_files = ([number for number in numbers if _is_known(done, number)] for numbers in inputs.files())
    some = iter([numbers for numbers in of_files if numbers])

    def look(files: Sequence[list[int]]) -> list[Stamp]:
        return [file_stamp(inputs.path(inputs.items[numbers[0]])) for numbers in files]

    handed = iter(lambda: list(islice(some, _FILES_AT_ONCE)), [])
    changed: list[int] = []
    for files, stamps in prefetch_files(look, handed, num_workers):
        assert not isinstance(stamps, MediaError)
        for numbers, stamp in zip(files, stamps, strict=True):
            changed += [number for number in numbers if _is_other(done, number, stamp)]
    return sorted(changed)


def _is_known(done: Progress, number: int) -> bool:
    return bool(done.states[number] != MISSING and done.stamps[number, 0] != UNKNOWN[0])


def _is_other(done: Progress, number: int, stamp: Stamp) -> bool:
    if stamp == GONE and done.states[number] != REJECTED:
        return False
    return bool(np.any(done.stamps[number] != stamp))


# ---- How many inputs may fail before an extraction is given up


@dataclass(frozen=True)
class FailureLimit:
    """How many inputs may fail: a number, or a share of all; neither where any number may."""

    number: int | None = None
    share: float | None = None

    @classmethod
    def parse(cls, text: str | None) -> "FailureLimit":
        """Of `--max_failures`: `1` is one input, `1.0` is all. Raises: UserError for neither a whole number nor a share up to 1.0."""
        if text is None:
            return cls()
        if text.isascii() and text.isdecimal():
            return cls(number=int(text))
        try:
            share = float(text)
        except ValueError:
            share = -1.0
        if not 0 <= share <= 1:
            raise UserError(f"--max_failures is {text!r}; want a whole number such as 100, or a share of the inputs from 0.0 to 1.0")
        return cls(share=share)

    def check(self, num_failed: int, num_seen: int) -> None:
        """Raises: RejectsError if more have failed than may."""
        allowed = int(self.share * num_seen) if self.share is not None else self.number
        if allowed is not None and num_failed > allowed:
            raise RejectsError(f"{num_failed} of {num_seen} inputs failed and --max_failures allows {allowed}")
