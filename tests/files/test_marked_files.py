"""Files that prove whose they are: JSON with a mark in it, and tables with a record beside them."""

import json
import os

import pytest

from mmaudio.base.errors import UserError
from mmaudio.files.atomic import atomic_folder
from mmaudio.files.owned_files import (
    check_marked,
    check_recorded,
    file_sha256,
    is_marked,
    is_recorded,
    record_beside,
    recorded_path,
    remove_recorded,
    write_marked,
)


def test_json_is_replaced_where_its_mark_fits(tmp_path):
    path = tmp_path / "a.json"
    check_marked(path, "scores", "birds")
    for value in (1, 2):
        write_marked(path, {"value": value}, "scores", "birds")
        check_marked(path, "scores", "birds")
    assert json.loads(path.read_text())["value"] == 2
    assert is_marked(path, "scores") and not is_marked(path, "scores", "cats") and not is_marked(path, "comparison")
    with pytest.raises(UserError, match=r"a\.json was not made by this program.*; name another file, or move it aside: mv "):
        check_marked(path, "scores", "cats")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"mark": 1}', '{"mark": {"program": "mmaudio"}}', "\udc80", "[" * 100_000])
def test_any_other_content_is_somebody_elses(tmp_path, content):
    path = tmp_path / "a.json"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match="not made by this program"):
        check_marked(path, "scores")
    write_marked(path, {}, "scores", "birds")
    assert (tmp_path / "a.json.aside").read_bytes() == content.encode("utf-8", "surrogateescape")
    record_beside(path).write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=r"a\.json\.mark\.json was not made by this program"):
        check_recorded(path)


def test_a_table_is_replaced_as_long_as_it_is_what_was_written(tmp_path):
    path = tmp_path / "a.tsv"
    for text in ("one", "two"):
        with recorded_path(path) as temporary:
            temporary.write_text(text)
        assert is_recorded(path)
        check_recorded(path)
    path.write_text("one")
    check_recorded(path)  # it was written here, too
    path.write_text("three")
    with pytest.raises(UserError, match="it was changed after this program had written it: name another file"):
        check_recorded(path)
    path.rename(tmp_path / "b.tsv")
    record_beside(path).rename(record_beside(tmp_path / "b.tsv"))
    assert not is_recorded(tmp_path / "b.tsv"), "its record is of another name"
    with recorded_path(path) as temporary:
        temporary.write_text("four")
    remove_recorded(path)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["b.tsv", "b.tsv.mark.json"]
    remove_recorded(tmp_path / "b.tsv")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["b.tsv.aside", "b.tsv.mark.json.aside"]
    assert file_sha256(tmp_path) is None


@pytest.mark.parametrize("what", ["folder", "file", "link", "nothing"])
def test_what_a_folder_takes_the_place_of_is_kept_aside(tmp_path, what):
    path, aside, real = tmp_path / "a", tmp_path / "kept", tmp_path / "real"
    if what == "file":
        path.write_text("precious")
    elif what != "nothing":
        (real if what == "link" else path).mkdir()
        (real if what == "link" else path).joinpath("thesis.txt").write_text("precious")
    if what == "link":
        path.symlink_to(real)

    def fails():
        raise RuntimeError

    with pytest.raises(RuntimeError), atomic_folder(path, [], fails, aside=aside):
        pass
    assert path.exists() == (what != "nothing") and (what != "folder" or (path / "thesis.txt").exists())
    assert not os.path.lexists(aside)
    with atomic_folder(path, [], aside=aside) as temporary:
        (temporary / "new").touch()
    assert [each.name for each in path.iterdir()] == ["new"] and path.is_symlink() == (what == "link")
    assert what == "nothing" or "precious" in (aside if what == "file" else aside / "thesis.txt").read_text()
