"""Ids as file names: below their folder whatever they are, unchanged where they can be, and no two alike."""

import os
import unicodedata
from pathlib import Path

import pytest

from mmaudio.base.errors import UserError
from mmaudio.base.file_names import check_distinct, check_ids, check_plain_name, check_plain_path, file_name, file_of

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
