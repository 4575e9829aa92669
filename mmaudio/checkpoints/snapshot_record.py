"""Whose snapshots a folder holds: a record in it names the run, and each file that the run stored, with the sums of its archive.

Snapshots have a published format, and a folder of them may be named by several runs, so neither their names nor their content tell whose
they are. What the record does not list is not the run's: it is neither averaged nor moved nor removed.
"""

import json
import logging
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmaudio.base.errors import UserError
from mmaudio.base.files import scratch_folder, text_hash, write_json
from mmaudio.base.ownership import MARK_KEY, fits, foreign, mark_of, read_mark

log = logging.getLogger(__name__)
RECORD_FILE = "snapshots.json"
_KIND = "ema snapshots"
_FILES = "snapshots"


@dataclass(frozen=True)
class SnapshotOwner:
    """The run that stores snapshots in a folder.

    Attributes:
        run_id: tells runs of one exp_id in different folders apart; None where the run has none.
        is_at_home: whether the folder is the one in the run's own, whose place says whose it is.
    """

    exp_id: str
    run_id: str | None = None
    is_at_home: bool = True

    def is_owner_of(self, mark: Mapping[str, Any] | None) -> bool:
        return fits(mark, _KIND, self.exp_id) and (self.is_at_home or (mark or {}).get("run") == self.run_id)


def check_owner(folder: Path, owner: SnapshotOwner) -> None:
    """Raises: UserError where a folder holds the snapshots of another run, or a file that is no record of ours under its name."""
    record = folder / RECORD_FILE
    if not record.exists():
        return
    mark = read_mark(record)
    if mark is None or mark.get("kind") != _KIND:
        raise foreign(record, "name another folder: ema.checkpoint_folder")
    if not owner.is_owner_of(mark):
        name = mark.get("of")
        other = f"the run {name!r}" if name != owner.exp_id else f"another run called {name!r}, in another folder"
        advice = "name another ema.checkpoint_folder, or leave it out: they then go to the run's own"
        raise UserError(f"{folder} holds the EMA snapshots of {other}; {advice}")


def claim(folder: Path, owner: SnapshotOwner, files: list[Path]) -> None:
    """Take a folder for the snapshots of a run, unless it is this run's already.

    Args:
        files: snapshots that are there, and are the run's own, where no record says whose they are.
    Raises: UserError as `check_owner`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = _content(owner, {path.name: [archive_sums(path)] for path in files})
    if not (folder / RECORD_FILE).exists() and _is_new(folder / RECORD_FILE, content):
        return
    check_owner(folder, owner)
    if read_mark(folder / RECORD_FILE) != content[MARK_KEY]:  # the run's folder, and what names the run, were moved
        write_json(folder / RECORD_FILE, {**content, _FILES: recorded_snapshots(folder)})


def _content(owner: SnapshotOwner, files: Mapping[str, list[str]]) -> dict[str, Any]:
    return {MARK_KEY: mark_of(_KIND, owner.exp_id, run=owner.run_id), _FILES: dict(files)}


def _is_new(path: Path, content: Mapping[str, Any]) -> bool:
    """Write a record where there is none; False where another process was first."""
    with scratch_folder(path) as scratch:
        write_json(scratch / path.name, content)
        try:
            os.link(scratch / path.name, path)
        except FileExistsError:
            return False
        except OSError:  # a file system without hard links
            write_json(path, content)
    return True


def recorded_snapshots(folder: Path) -> dict[str, list[str]] | None:
    """File name → sums that it may have, of all that the run stored in a folder; None where no record says so."""
    path = folder / RECORD_FILE
    mark = read_mark(path)
    if mark is None or mark.get("kind") != _KIND:
        return None
    files = json.loads(path.read_text(encoding="utf-8")).get(_FILES)
    return files if isinstance(files, dict) else {}


def note_snapshot(folder: Path, name: str, sums: list[str]) -> None:
    """Record which sums a snapshot has; with none, that it is gone. Without effect in a folder that no run has claimed."""
    files = recorded_snapshots(folder)
    if files is None:
        return
    files = {other: known for other, known in files.items() if other != name} | ({name: sums} if sums else {})
    write_json(folder / RECORD_FILE, {MARK_KEY: read_mark(folder / RECORD_FILE), _FILES: files})


def archive_sums(path: Path) -> str:
    """What tells the content of one file of torch from that of another: a hash of its archive's own checksums. Reads no tensor."""
    try:
        with zipfile.ZipFile(path) as archive:
            parts = [(entry.filename.partition("/")[2], entry) for entry in archive.infolist()]
    except (OSError, ValueError, LookupError, NotImplementedError, zipfile.BadZipFile):
        return f"{path.stat().st_size} bytes" if path.is_file() else ""
    return text_hash(f"{name} {entry.file_size} {entry.CRC:08x}" for name, entry in parts)
