"""Tab-separated tables in which ids and captions are text and come back exactly as they went in.

Written: a field is quoted only if it holds a tab, a quote or a line break; inner quotes are doubled. Read: a field is
unquoted only if it starts and ends with a quote and all inner quotes are doubled; anything else is literal. A record is
one line unless a line break stands inside such a quoted field. No field is ever taken for a number or a missing value.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmaudio.base.errors import UserError, nearest
from mmaudio.base.files import write_text

# A well-formed quoted field up to its end (tab, line end or end of text), or everything up to the next tab or line end.
# Possessive, so that a stray quote in a long file costs one scan and no backtracking.
_QUOTED = re.compile(r'"((?:[^"]++|"")*+)"(?=\t|\r?\n|\Z)')
_PLAIN = re.compile(r"[^\t\n]*")
_MUST_QUOTE = re.compile(r'[\t"\n\r]')


@dataclass(frozen=True)
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


def format_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The text of a table: a header line, then one record a row, each ended by a line feed."""
    lines = ["\t".join(quote_field(field) for field in record) for record in (columns, *rows)]
    return "".join(line + "\n" for line in lines)


def _records(text: str) -> list[tuple[int, list[str]]]:
    """Split a table's text into (line number, fields). Blank lines at the end are no records."""
    records: list[tuple[int, list[str]]] = []
    at, line, fields, started = 0, 1, [], 1
    while at < len(text):
        match = _QUOTED.match(text, at) or _PLAIN.match(text, at)
        assert match is not None  # _PLAIN matches the empty string
        quoted = match.re is _QUOTED
        field = match.group(1).replace('""', '"') if quoted else match.group(0)
        at, line = match.end(), line + match.group(0).count("\n")
        ends_record = at >= len(text) or text[at] in "\r\n"
        if not quoted and ends_record:
            field = field.removesuffix("\r")
        fields.append(field)
        if at < len(text) and text[at] == "\t":
            at += 1
            if at >= len(text):
                fields.append("")
                ends_record = True
        if ends_record:
            records.append((started, fields))
            at += 2 if text.startswith("\r\n", at) else 1
            line, fields = line + 1, []
            started = line
    while records and records[-1][1] == [""]:
        records.pop()
    return records


def parse_table(text: str, name: str, wanted: Sequence[str] = ()) -> Table:
    """Read a table's text. `name` is what messages call it; `wanted` are columns it must have.

    Raises: UserError for no header, a missing column (naming the nearest), a repeated column, or a row with another
    number of fields (by line number).
    """
    records = _records(text.removeprefix("\ufeff"))
    if not records:
        raise UserError(f"{name} is empty; a table starts with a header row")
    columns = tuple(records[0][1])
    for column in wanted:
        if column not in columns:
            raise UserError(f"{name} has no column {column!r}{nearest(column, columns)}; its columns are {', '.join(columns)}")
    if len(set(columns)) != len(columns):
        raise UserError(f"{name} names a column twice; its columns are {', '.join(columns)}")
    for line, fields in records[1:]:
        if len(fields) != len(columns):
            raise UserError(f"{name}, line {line}: {len(fields)} fields where the header has {len(columns)}; separate fields by one tab")
    return Table(columns, tuple(tuple(fields) for _, fields in records[1:]))


def read_table(path: Path, wanted: Sequence[str] = ()) -> Table:
    """Read a table file (UTF-8). Raises: UserError as `parse_table`, or for a file that is missing or not UTF-8."""
    if not path.is_file():
        raise UserError(f"no table at {path}")
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start}); save the table as UTF-8") from None
    return parse_table(text, str(path), wanted)


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a table file atomically."""
    write_text(path, format_table(columns, rows))
