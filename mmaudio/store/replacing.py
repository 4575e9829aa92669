"""What stands at the place of a store, and whether it may be replaced: only what this program made, and no rows that would be lost."""

import os
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from mmaudio.base.errors import UserError, named
from mmaudio.files.atomic import parse_json
from mmaudio.files.owned_files import file_sha256
from mmaudio.files.ownership import fits, foreign, mark_of
from mmaudio.files.tables import table_sha256
from mmaudio.store import format as schema
from mmaudio.store.format import UNFINISHED, StoreRecord
from mmaudio.store.reader import read_rows

KIND = "store"
TABLE_ENDING, RECORD_ENDING, NULL_TEXT_ENDING = ".tsv", ".json", ".empty_string.pth"  # endings of what stands beside a store
_CHANGED = "it was changed after this program had written it: "


def beside(folder: Path) -> dict[str, Path]:
    """Ending → file, of all that stands beside a store."""
    return {
        TABLE_ENDING: schema.table_path(folder),
        NULL_TEXT_ENDING: schema.null_text_path(folder),
        RECORD_ENDING: schema.record_path(folder),
    }


def store_mark(rows_hash: str, files: Mapping[str, Sequence[str]], columns: Sequence[str]) -> dict[str, Any]:
    """The mark in a record.

    Args:
        rows_hash: of the store that it is of.
        files: ending → SHA-256 of what this program wrote to that file; of two, while one takes the other's place.
        columns: all that the folder may hold.
    """
    return mark_of(KIND, rows_hash, files={ending: list(sums) for ending, sums in files.items()}, columns=list(columns))


@dataclass(frozen=True)
class Standing:
    """What stands at the place of a store."""

    folder: Path
    content: Mapping[str, Any]  # of the record, where it is this program's
    record: StoreRecord | None  # of a store that is whole
    foreign: tuple[Path, ...]  # what this program did not write, or somebody changed since
    changed: tuple[Path, ...]  # of them, the latter

    @property
    def mark(self) -> Mapping[str, Any] | None:
        return self.content.get("mark") or None

    @property
    def is_unfinished(self) -> bool:
        """Whether a store was being written there when that was interrupted."""
        return self.content.get("format_version") == UNFINISHED

    def refusal(self, place: str) -> UserError | None:
        """A sentence for each thing that may not be replaced, with the command that moves it aside; all of them then are one store.

        Args:
            place: what else the user may do, such as naming another place.
        """
        if not self.foreign:
            return None
        aside, moves = moves_aside(self.folder)
        names = {self.folder: aside, **dict(moves)}
        errors = [foreign(path, (_CHANGED if path in self.changed else "") + place, aside=names.get(path)) for path in self.foreign]
        return UserError(*(sentence for error in errors for sentence in error.sentences))


def standing(folder: Path, *, grows: bool = False) -> Standing:
    """Look at the place of a store; reads the table and the null text, and no column.

    Args:
        grows: rows are being added to it, so it may have more of them than its record says.
    """
    places, content = beside(folder), _own_record(folder)
    record = StoreRecord.from_json(content, "the record") if content and content["format_version"] != UNFINISHED else None
    mark = content.get("mark") or None
    is_table = schema.table_path(folder).exists()
    found: dict[Path, bool] = {}  # file or folder → whether it is known, and was changed
    if places[RECORD_ENDING].exists() and not content:
        found[places[RECORD_ENDING]] = False
    if _is_something(folder) and not _is_of(folder, record, mark, grows=grows):
        found[folder] = bool(content)
    if is_table and not (_has_sum(places[TABLE_ENDING], mark, TABLE_ENDING) or (record and not mark and _is_as_written(folder, record))):
        found[places[TABLE_ENDING]] = bool(content)
    is_old_null_text = record is not None and not mark and record.layout == "published"
    if places[NULL_TEXT_ENDING].exists() and not (_has_sum(places[NULL_TEXT_ENDING], mark, NULL_TEXT_ENDING) or is_old_null_text):
        found[places[NULL_TEXT_ENDING]] = mark is not None and NULL_TEXT_ENDING in mark["files"]
    return Standing(folder, content, record, tuple(found), tuple(path for path, is_changed in found.items() if is_changed))


def _own_record(folder: Path) -> dict[str, Any]:
    """The content of a record that this program wrote; nothing where there is none."""
    path = schema.record_path(folder)
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(content, dict):
        return {}
    mark = content.get("mark")
    if content.get("format_version") == UNFINISHED:
        return content if isinstance(mark, dict) and fits(mark, KIND, str(mark.get("of"))) and _is_whole(mark) else {}
    try:
        record = StoreRecord.from_json(content, str(path))
    except UserError:
        return {}
    if not mark:
        return content
    return content if fits(mark, KIND, record.rows_hash) and _is_whole(mark) else {}


def _is_whole(mark: Mapping[str, Any]) -> bool:
    return isinstance(mark.get("files"), dict) and isinstance(mark.get("columns"), list)


def _is_something(folder: Path) -> bool:
    return folder.exists() and not (folder.is_dir() and not any(folder.iterdir()))


def _is_of(folder: Path, record: StoreRecord | None, mark: Mapping[str, Any] | None, *, grows: bool) -> bool:
    """Whether a folder is the one that a record tells of."""
    columns = mark["columns"] if mark else list(record.dtypes) if record else []
    if not columns or not folder.is_dir():
        return False
    if {entry.name for entry in folder.iterdir()} - {"meta.json", *(f"{name}.memmap" for name in columns)}:
        return False
    if record is None:  # unfinished: the one before, or the new one
        return True
    try:
        num_rows = int(parse_json((folder / "meta.json").read_text(encoding="utf-8"))["mean"]["shape"][0])
    except (OSError, ValueError, LookupError, TypeError):
        return False
    return num_rows == record.num_rows or (grows and num_rows > record.num_rows)


def _has_sum(path: Path, mark: Mapping[str, Any] | None, ending: str) -> bool:
    known = mark["files"].get(ending) if mark else None
    return isinstance(known, list) and file_sha256(path) in known


def _is_as_written(folder: Path, record: StoreRecord) -> bool:
    """Whether a table, byte by byte, is the one that was written with a record without a mark."""
    path = schema.table_path(folder)
    try:
        ids, captions = read_rows(path, folder)
    except UserError:
        return False
    columns = ("id", schema.CAPTION_COLUMNS.get(record.kind, ""))
    is_same = file_sha256(path) == table_sha256(columns, zip(ids, captions, strict=True))
    return is_same and schema.hash_rows(ids, captions) == record.rows_hash


def what_is_lost(
    folder: Path,
    rows: Container[tuple[str, str]],
    differences: Callable[[Mapping[str, Any]], list[str]],
    *,
    source: str,
    place: str,
    is_resumed: bool = False,
) -> UserError | None:
    """Why a store of `rows` may not take the place of this program's at `folder`, naming what differs; None where it may.

    Args:
        rows: id and caption of each.
        differences: what differs between how rows were made, by a record's fields, and how these are.
        source: what messages call where these rows come from.
        place: what the user may do instead, such as naming another place; both commands that write stores also have --replace.
        is_resumed: whether it would be this very work that was interrupted while it wrote a store there.
    """
    found, advice = standing(folder), f"{place}, or have it moved aside: --replace"
    if found.is_unfinished and not is_resumed and _is_something(folder):
        return UserError(f"store {folder} was being written by another command, which was interrupted; run that one again, or {advice}")
    if found.record is None or found.foreign:
        return None
    if not schema.table_path(folder).exists():
        if not _is_something(folder):
            return None
        return UserError(f"a store at {folder} would be replaced, and which rows it has cannot be told (it has no table); {advice}")
    ids, captions = read_rows(schema.table_path(folder), folder)
    others = [row_id for row_id, caption in zip(ids, captions, strict=True) if (row_id, caption) not in rows]
    lost = f"{len(others)} of its {len(ids)} rows ({named(others)}) are not, with their captions, among those of {source}"
    words = ([lost] if others else []) + differences(found.content)
    return UserError(f"store {folder} would be replaced by another one: {'; '.join(words)}; {advice}") if words else None


def moves_aside(folder: Path) -> tuple[Path, list[tuple[Path, Path]]]:
    """Where a store goes that makes way, and what beside it has to be renamed, and to what, so that all of it is one store there.

    Taken up where a killed try left it: what is moved already has its name.
    """
    for number in count(1):
        aside = folder.with_name(f"{folder.name}.aside{f'-{number}' if number > 1 else ''}")
        moves = list(zip(beside(folder).values(), beside(aside).values(), strict=True))
        if not any(os.path.lexists(here) and os.path.lexists(there) for here, there in [(folder, aside), *moves]):
            return aside, [(here, there) for here, there in moves if here.exists()]
    raise AssertionError("numbers do not end")
