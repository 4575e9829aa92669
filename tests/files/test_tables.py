"""Tables: text comes back as it went in, files of the published system are read, mistakes are named by line."""

import csv
import io
import random
import time

import pytest

from mmaudio.base.errors import UserError
from mmaudio.files.tables import Table, format_table, parse_table, quote_field, read_columns, read_table, write_table
from tests.store.examples import ODD_TEXTS


def rows_of(text):
    return [list(row) for row in parse_table("a\tb\n" + text, "table").rows]


def test_odd_texts_come_back(tmp_path):
    path = tmp_path / "new" / "table.tsv"
    rows = [(one, other) for one in ODD_TEXTS for other in ODD_TEXTS]
    write_table(path, ("id", "caption"), rows)
    assert read_table(path).rows == tuple(rows)
    assert read_table(path).columns == ("id", "caption")


def test_random_texts_come_back():
    random.seed(0)
    texts = ["".join(random.choices('ab"\t\n\r \u2028\N{DOG FACE}', k=random.randrange(7))) for _ in range(20_000)]
    rows = tuple(zip(texts[::2], texts[1::2], strict=True))
    assert parse_table(format_table(("a", "b"), rows), "table").rows == rows


def test_a_field_is_quoted_only_if_it_must_be():
    plain = ["", "a b", "'", ",", "#", "\N{DOG FACE}", "\u2028", "\\"]
    assert [quote_field(field) for field in plain] == plain
    assert [quote_field(field) for field in ('"', "a\tb", "a\nb", "a\rb", 'a"b')] == ['""""', '"a\tb"', '"a\nb"', '"a\rb"', '"a""b"']


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        ('"a"\tb', ["a", "b"]),
        ('"a""b"\tc', ['a"b', "c"]),
        ('"a\tb"\tc', ["a\tb", "c"]),
        ('"a\nb"\tc', ["a\nb", "c"]),
        ('x\t"a\r\nb"', ["x", "a\r\nb"]),
        # Anything else is literal.
        ('"a\tb', ['"a', "b"]),
        ('a"\tb', ['a"', "b"]),
        ('"a"b\tc', ['"a"b', "c"]),
        ('"a"b"\tc', ['"a"b"', "c"]),
        ('a"b"\tc', ['a"b"', "c"]),
        ('a\t"b\tc"', ["a", "b\tc"]),
        ('"a\rb"\tc', ["a\rb", "c"]),
        ('"\tb', ['"', "b"]),
        ('""\tb', ["", "b"]),
        ('"""\tb', ['"""', "b"]),
        ('""""\tb', ['"', "b"]),
        ("\t", ["", ""]),
        (" a \t b ", [" a ", " b "]),
    ],
)
@pytest.mark.parametrize("ending", ["\n", "\r\n", ""])
def test_quoting_rule(line, fields, ending):
    assert rows_of(line + ending) == [fields]
    assert rows_of("x\ty\n" + line + ending) == [["x", "y"], fields]


def test_reads_what_a_csv_writer_with_minimal_quoting_wrote():
    texts = [text for text in ODD_TEXTS if not text.endswith("\r")]  # it leaves these open to be taken for a line's end
    rows = [[one, other] for one in texts for other in texts]
    for ending in ("\n", "\r\n"):
        file = io.StringIO()
        csv.writer(file, delimiter="\t", lineterminator=ending).writerows([["a", "b"], *rows])
        assert [list(row) for row in parse_table(file.getvalue(), "table").rows] == rows


def test_column_and_records():
    table = parse_table("\ufeffid\tcaption\n1\tx\n2\ty\n\n\n", "table", ("caption", "id"))
    assert table == Table(("id", "caption"), (("1", "x"), ("2", "y")))
    assert table.column("caption") == ["x", "y"]
    assert table.records() == [{"id": "1", "caption": "x"}, {"id": "2", "caption": "y"}]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "table is empty"),
        ("\n\n", "table is empty"),
        ("id\tcaptoin\n", r"table has no column 'caption' \(did you mean 'captoin'\?\); its columns are id, captoin"),
        ("id\tcaption\tid\n", "names a column twice"),
        ("id\tcaption\n1\tx\n2\n", "table, line 3: 1 fields where the header has 2"),
        ('id\tcaption\n1\t"two\nlines"\n2\tx\ty\n', "table, line 4: 3 fields"),
        ("id\tcaption\n\n1\tx\n", "table, line 2: 1 fields"),
    ],
)
def test_mistakes_are_named(text, said):
    with pytest.raises(UserError, match=said):
        parse_table(text, "table", ("id", "caption"))


def test_files_that_are_no_tables(tmp_path):
    with pytest.raises(UserError, match="no table at"):
        read_table(tmp_path / "gone.tsv")
    (tmp_path / "latin.tsv").write_bytes("id\ncafé\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"latin.tsv is not UTF-8 text \(byte 6\)"):
        read_table(tmp_path / "latin.tsv")


def test_some_columns_row_by_row(tmp_path):
    path = tmp_path / "table.tsv"
    path.write_text('id\tmore\tlabel\n1\t"a\nb"\tx\n2\t\ty\n\n')
    assert list(read_columns(path, ("label", "id"))) == [("x", "1"), ("y", "2")]
    assert list(read_columns(path, ("more",))) == [("a\nb",), ("",)]
    assert list(read_columns(path, ("id",), {"weight": "1", "label": "none"})) == [("1", "1", "x"), ("2", "1", "y")]


def test_a_wrong_header_is_told_before_rows_and_a_wrong_row_when_it_comes(tmp_path):
    path = tmp_path / "table.tsv"
    path.write_text("id\tlabel\n1\tx\n2\n")
    with pytest.raises(UserError, match=r"no column 'lable' \(did you mean 'label'\?\)"):
        read_columns(path, ("lable",))
    rows = read_columns(path, ("label",))
    assert next(rows) == ("x",)
    with pytest.raises(UserError, match="line 3: 1 fields where the header has 2"):
        next(rows)


def test_rows_that_cannot_be_written_leave_the_old_table(tmp_path):
    path = tmp_path / "table.tsv"
    write_table(path, ("id",), [("old",)])
    with pytest.raises(UnicodeEncodeError):
        write_table(path, ("id",), [("new",), ("\udce9",)])
    assert path.read_text() == "id\nold\n" and list(tmp_path.iterdir()) == [path]


def test_stray_quotes_cost_no_more_than_their_length():
    text = "a\tb\n" + '"stray\tx\n' + "y\tz\n" * 50_000
    began = time.perf_counter()
    assert len(parse_table(text, "table").rows) == 50_001
    assert len(parse_table("a\n" + '"x"y\n' * 30_000, "table").rows) == 30_000
    assert time.perf_counter() - began < 10
