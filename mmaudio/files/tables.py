"""Tab-separated tables in which ids and captions are text and come back exactly as they went in.

Written: a field is quoted only if it holds a tab, a quote or a line break; inner quotes are doubled. Read: a field is
unquoted only if it starts and ends with a quote and all inner quotes are doubled; anything else is literal. A record is
one line unless a line break stands inside such a quoted field. No field is ever taken for a number or a missing value.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from pathlib import Path

from mmaudio.base.errors import UserError, nearest
from mmaudio.files.atomic import atomic_path
from mmaudio.files.owned_files import recorded_path

# A well-formed quoted field up to its end (tab, line end or end of text), or everything up to the next tab or line end.
# Possessive, so that a stray quote in a long file costs one scan and no backtracking.
_QUOTED = re.compile(r'"((?:[^"]++|"")*+)"(?=\t|\r?\n|\Z)')
_PLAIN = re.compile(r"[^\t\n]*")
_MUST_QUOTE = re.compile(r'[\t"\n\r]')
_MUST_QUOTE_IN_LINE = re.compile(r'["\n\r]')  # a tab too many shows in their number


@dataclass(frozen=True, slots=True)
class Table:
    """Column names and rows of text, in file order."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def column(self, name: str) -> list[str]:
        at = self.columns.index(name)
        return [row[at] for row in self.rows]

    def records(self) -> list[dict[str, str]]:
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


def quote_field(field: str) -> str:
    return '"' + field.replace('"', '""') + '"' if _MUST_QUOTE.search(field) else field


def _lines(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    for record in chain((columns,), rows):
        line = "\t".join(record)
        if _MUST_QUOTE_IN_LINE.search(line) or line.count("\t") >= len(record):
            line = "\t".join(map(quote_field, record))
        yield line + "\n"


def format_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The text of a table: a header line, then one record a row, each ended by a line feed."""
    return "".join(_lines(columns, rows))


def table_sha256(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The SHA-256, in hexadecimal, of the file that `write_table` makes of these rows; they are gone through once and not kept."""
    digest = hashlib.sha256()
    for line in _lines(columns, rows):
        digest.update(line.encode("utf-8"))
    return digest.hexdigest()


def _records(text: str) -> Iterator[tuple[int, list[str]]]:
    """Split a table's text into (line number, fields). Blank lines at the end are no records."""
    at, line = 0, 1
    blank: list[tuple[int, list[str]]] = []
    while at < len(text):
        end = text.find("\n", at)
        plain = text[at:] if end < 0 else text[at:end]
        if '"' in plain and (plain[0] == '"' or '\t"' in plain):
            fields, after = _quoted_record(text, at)
            num_lines = text.count("\n", at, after)
        else:
            fields, after, num_lines = plain.removesuffix("\r").split("\t"), at + len(plain) + 1, 1
        if fields == [""]:
            blank.append((line, fields))
        else:
            if blank:
                yield from blank
                blank = []
            yield line, fields
        at, line = after, line + num_lines


def _quoted_record(text: str, at: int) -> tuple[list[str], int]:
    """The fields of the record that starts at `at`, and where the next one does, where a field may be quoted."""
    fields: list[str] = []
    while True:
        match = _QUOTED.match(text, at) or _PLAIN.match(text, at)
        assert match is not None  # _PLAIN matches the empty string
        at = match.end()
        ends_record = not text.startswith("\t", at)
        if match.re is _QUOTED:
            fields.append(match.group(1).replace('""', '"'))
        else:
            fields.append(match.group(0).removesuffix("\r") if ends_record else match.group(0))
        if ends_record:
            return fields, at + (2 if text.startswith("\r\n", at) else 1)
        at += 1


def _parse(text: str, name: str, wanted: Sequence[str]) -> tuple[tuple[str, ...], Iterator[list[str]]]:
    """Column names, checked, and rows to come, each checked when it is asked for."""
    records = _records(text.removeprefix("\ufeff"))
    _, header = next(records, (1, None))
    if header is None:
        raise UserError(f"{name} is empty; a table starts with a header row")
    columns = tuple(header)
    for column in wanted:
        if column not in columns:
            raise UserError(f"{name} has no column {column!r}{nearest(column, columns)}; its columns are {', '.join(columns)}")
    if len(set(columns)) != len(columns):
        raise UserError(f"{name} names a column twice; its columns are {', '.join(columns)}")

    def rows() -> Iterator[list[str]]:
        for line, fields in records:
            if len(fields) != len(columns):
                raise UserError(
                    f"{name}, line {line}: {len(fields)} fields where the header has {len(columns)}; separate fields by one tab"
                )
            yield fields

    return columns, rows()


def parse_table(text: str, name: str, wanted: Sequence[str] = ()) -> Table:
    """Read a table's text. `name` is what messages call it; `wanted` are columns it must have.

    Raises: UserError for no header, a missing column (naming the nearest), a repeated column, or a row with another
    number of fields (by line number).
    """
    columns, rows = _parse(text, name, wanted)
    return Table(columns, tuple(map(tuple, rows)))


def _read_text(path: Path) -> str:
    if not path.is_file():
        raise UserError(f"no table at {path}")
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start}); save the table as UTF-8") from None


def read_table(path: Path, wanted: Sequence[str] = ()) -> Table:
    """Read a table file (UTF-8). Raises: UserError as `parse_table`, or for a file that is missing or not UTF-8."""
    return parse_table(_read_text(path), str(path), wanted)


def read_header(path: Path) -> tuple[str, ...]:
    """The columns a table file has. Raises: UserError as `read_table`."""
    return _parse(_read_text(path), str(path), ())[0]


def read_columns(path: Path, names: Sequence[str], defaults: Mapping[str, str] | None = None) -> Iterator[tuple[str, ...]]:
    """Some columns of a table file, row by row in file order; beside the file's text no more than one row is held.

    Args:
        names: columns the table must have.
        defaults: further columns, with what a table that lacks them is taken to hold.
    Returns: the rows to come: a field for each of `names`, then one for each of `defaults`.
    Raises: UserError as `read_table`: for the file and its columns here, for a row when the row is asked for.
    """
    columns, rows = _parse(_read_text(path), str(path), names)
    defaults = defaults or {}
    added = [value for name, value in defaults.items() if name not in columns]
    known = (*columns, *(name for name in defaults if name not in columns))
    at = [known.index(name) for name in (*names, *defaults)]
    whole = (row + added for row in rows) if added else rows
    return map(itemgetter(*at), whole) if len(at) > 1 else ((row[at[0]],) for row in whole)


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]], *, recorded: bool = False) -> None:
    """Write a table file atomically; its rows are gone through once and not kept.

    Args:
        recorded: as `recorded_path`: a record beside it says what was written, and a table that somebody else wrote is moved aside.
    """
    written = recorded_path if recorded else atomic_path
    with written(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        file.writelines(_lines(columns, rows))
