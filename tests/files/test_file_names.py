"""Ids as file names: below their folder whatever they are, unchanged where they can be, and no two alike."""

import ast
import json
import os
import re
import unicodedata
from pathlib import Path

import pytest

from mmaudio.base.errors import UserError
from mmaudio.files.file_names import (
    check_distinct,
    check_ids,
    check_plain_name,
    check_plain_path,
    file_name,
    file_of,
    given_path,
    ids_by_file,
)
from mmaudio.files.owned_files import add_ids, read_ids
from tests.conftest import ROOT

PLAIN = [
    "00008004",
    "0B4dYTMsgHA_000130",
    "rain.take.2",
    "a b",
    "...",
    ".hidden",
    "a/b/c",
    "Ä'\"🎉\t",
    "a\nb",
    "back\\slash",
    "%2E",
    "x" * 250,
    "~1",
    "\udcff" * 250,  # a name that is no UTF-8
]
STRANGE = [
    "",
    "/etc/passwd",
    "..",
    "../x",
    "a/../b",
    ".",
    "./a",
    "a//b",
    "a/",
    "nul\0byte",
    "\ud800",
    "\udcff" * 300,
    "x" * 251,
    "ü" * 130,
    "a/" + "y" * 300 + "/b",
]


@pytest.mark.parametrize("name_id", PLAIN)
def test_plain_ids_keep_their_names(name_id: str) -> None:
    assert file_name(name_id, ".flac") == f"{name_id}.flac"


@pytest.mark.parametrize("name_id", [*PLAIN, *STRANGE])
def test_every_id_has_a_file_below_its_folder(name_id: str, tmp_path: Path) -> None:
    folder = tmp_path / "samples"
    path = file_of(folder, name_id, ".flac")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"sound")
    inside = Path(os.path.normpath(path))
    assert inside == path and folder in inside.parents
    assert [found for found in tmp_path.rglob("*") if found.is_file()] == [path]
    assert max(len(os.fsencode(part)) for part in path.relative_to(folder).parts) <= 255


def test_no_two_ids_share_a_name() -> None:
    twins = ["Rain", "rain", unicodedata.normalize("NFC", "é"), unicodedata.normalize("NFD", "é"), "x" * 300, "x" * 299, "x" * 299 + "X"]
    ids = [*PLAIN, *STRANGE, *twins]
    assert len({file_name(name_id, ".flac") for name_id in ids}) == len(ids)
    check_distinct(ids, (".flac",))


def test_a_long_id_is_cut_and_closed_by_its_hash() -> None:
    name = file_name("ü" * 200, ".flac")
    assert name.startswith("ü" * 100) and len(name.encode()) in (254, 255)
    assert name.removesuffix(".flac").rpartition("~")[2].isalnum() and len(name.removesuffix(".flac").rpartition("~")[2]) == 16


def test_an_id_longer_than_a_path_may_be_is_one_name(tmp_path: Path) -> None:
    ids = ["ab/" * 2000 + "c", "ab/" * 2000 + "d", "ab%2F" * 2000 + "c"]
    names = [file_name(name_id, ".flac") for name_id in ids]
    assert len(set(names)) == 3 and not any("/" in name for name in names)
    for name_id in ids:
        file_of(tmp_path, name_id, ".flac").touch()


def test_paths_below_a_folder_that_ids_are_taken_for() -> None:
    assert [given_path(name_id) for name_id in ("a", "./a", "b//./a", "b/a")] == ["a", "a", "b/a", "b/a"]
    assert [given_path(name_id) for name_id in ("", ".", "a/", "a/.", "/a", "../a", "a/../b", "n\0")] == [None] * 8


def test_ids_come_back_from_the_names_of_files(tmp_path: Path) -> None:
    add_ids(tmp_path, ids_by_file(["rain", "a.b"], ".flac"))
    assert not list(tmp_path.iterdir())  # nothing to tell
    add_ids(tmp_path, ids_by_file(["../x", "rain"], ".flac", ".mp4"))
    add_ids(tmp_path, ids_by_file(["street/rain", "\ud800"], ".flac"))
    ids = ids_by_file(["../x", "rain"], ".flac", ".mp4") | ids_by_file(["street/rain", "\ud800"], ".flac")
    assert read_ids(tmp_path) == ids
    before = (tmp_path / "samples.json").stat().st_mtime_ns
    add_ids(tmp_path, ids)
    assert (tmp_path / "samples.json").stat().st_mtime_ns == before
    files = {**ids, "other.flac": "not its name", "../up.flac": "../up", "number": 3}
    (tmp_path / "samples.json").write_text(json.dumps({"step": 3, "files": files}))
    assert read_ids(tmp_path) == ids  # what does not fit is not believed
    add_ids(tmp_path, {"new.flac": "new"})
    assert json.loads((tmp_path / "samples.json").read_text())["step"] == 3


@pytest.mark.parametrize("content", ["[1]", "no JSON", '{"mine": 1}', '{"files": [1]}'])
def test_a_file_of_another_kind_is_not_replaced(tmp_path: Path, content: str) -> None:
    (tmp_path / "samples.json").write_text(content)
    assert read_ids(tmp_path) == {}
    add_ids(tmp_path, {"rain.flac": "rain"})
    with pytest.raises(UserError, match="was not made by this program"):
        add_ids(tmp_path, ids_by_file(["../x"], ".flac"))
    assert (tmp_path / "samples.json").read_text() == content


MEDIA = re.compile(r"\.(flac|wav|mp4|mp3)\b|suffix\b")
OF_AN_ID = re.compile(r"(?<![a-z_])(job\.name|clip_?id|name_id|row_id|clip|ids?|ids\[.*\]|row\[.id.\])(?![a-z_])")
OF_OUR_OWN = {"media/synthetic.py", "report/media_copies.py"}  # files called by an example, or by their place on a page


def _unnamed(tree: ast.AST) -> list[str]:
    """Where a path is built of an id, or a file of media is called by a text, without `file_of`."""
    found = []
    for node in ast.walk(tree):
        if not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)):
            continue
        text = ast.unparse(node.right)
        is_text = isinstance(node.right, ast.JoinedStr | ast.BinOp)
        if (is_text and (MEDIA.search(text) or OF_AN_ID.search(text))) or OF_AN_ID.fullmatch(text):
            found.append(ast.unparse(node))
    return found


def test_no_file_is_called_by_an_id_but_through_one_function() -> None:
    assert _unnamed(ast.parse('folder / f"{name}.flac"; folder / clip_id; folder / f"{batch.ids[0]}.x"; folder / (job.name + ".mp4")'))
    sources = {str(path.relative_to(ROOT / "mmaudio")): path for path in (ROOT / "mmaudio").rglob("*.py")}
    found = {name: _unnamed(ast.parse(path.read_text())) for name, path in sources.items() if name not in OF_OUR_OWN}
    assert {name: places for name, places in found.items() if places} == {
        "settings/config_files.py": ["folder / group / f\"{name.removesuffix('.yaml')}.yaml\""],  # names of config files
        "metrics/av_bench.py": ["chosen / (flat_names[clip_id] + path.suffix.lower())"],  # names of its own, taken back to ids
    }


def test_ids_whose_files_are_in_each_others_way_are_refused() -> None:
    with pytest.raises(UserError, match="would have one file name"):
        check_distinct(["..", file_name("..")], (".flac",))
    with pytest.raises(UserError, match=r"where the folder of 'a\.flac/b' is"):
        check_distinct(["a", "a.flac/b"], (".flac", ".mp4"))


def test_ids_of_tables_that_lead_out_of_their_folder_are_refused() -> None:
    check_ids([*PLAIN, "a//b", ""], "the table")
    for name_id in ("/etc/passwd", "..", "a/../b", "nul\0byte"):
        with pytest.raises(UserError, match=r"the table has 1 ids"):
            check_ids(["rain", name_id], "the table")


@pytest.mark.parametrize("value", ["", ".", "..", "a/b", "/a", "a\0", "x" * 256])
def test_plain_names(value: str) -> None:
    with pytest.raises(UserError, match="output_name is"):
        check_plain_name("output_name", value)


def test_names_leave_room_for_the_longest_file_called_by_them() -> None:
    check_plain_name("exp_id", "x" * 245, "_last.pth")
    with pytest.raises(UserError, match="1 bytes too long"):
        check_plain_name("exp_id", "x" * 247, "_last.pth")
    check_plain_path("exp_id", "team/birds", "_last.pth")
    with pytest.raises(UserError, match="want a relative path"):
        check_plain_path("exp_id", "team/../birds", "_last.pth")
