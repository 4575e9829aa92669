"""Marks: what is ours by its content, and what becomes of what is not."""

import json
import zipfile
from pathlib import Path

import pytest
import torch

from mmaudio.base.errors import UserError
from mmaudio.files.ownership import (
    archive_mark,
    aside_path,
    at_end_of_links,
    fits,
    foreign,
    foreign_files,
    is_in_the_way,
    mark_archive_,
    mark_of,
    mark_text,
    move_aside,
    parse_mark,
    read_mark,
)


def test_a_mark_comes_back_from_text_and_from_json(tmp_path: Path) -> None:
    mark = mark_of("sample", "strange\n'id\"\udc80 🎉", hash="0123")
    assert parse_mark(mark_text(mark)) == mark
    assert mark_text(mark).isascii() and "\n" not in mark_text(mark)
    (tmp_path / "a.json").write_text(json.dumps({"mark": mark, "scores": []}))
    assert read_mark(tmp_path / "a.json") == mark
    assert fits(mark, "sample", mark["of"])
    assert not fits(mark, "sample", "other")
    assert not fits(mark, "page", mark["of"])
    assert not fits(None, "sample", "other")


@pytest.mark.parametrize(
    "text", [None, "", "mmaudio", "[]", "null", "{}", '{"program": "mmaudio"}', '{"program": "x", "format": 1}', "[" * 100000]
)
def test_anything_else_is_no_mark(tmp_path: Path, text: str | None) -> None:
    assert parse_mark(text) is None
    (tmp_path / "a.json").write_text(text or "")
    assert read_mark(tmp_path / "a.json") is None
    (tmp_path / "a.json").write_text(f'{{"mark": {text}}}')
    assert read_mark(tmp_path / "a.json") is None
    assert read_mark(tmp_path / "none.json") is None


def test_what_is_foreign_is_moved_aside_and_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "my page"
    for number in ("", "-2", "-3"):
        path.mkdir()
        assert aside_path(path).name == f"my page.aside{number}"
        assert f"mv '{path}' '{path}.aside{number}'" in foreign(path).sentences[0]
        assert move_aside(path).name == f"my page.aside{number}"
    assert len(list(tmp_path.iterdir())) == 3


def test_many_files_are_one_sentence(tmp_path: Path) -> None:
    paths = [tmp_path / "out" / name for name in ("a", "b/c", "d", "e")]
    (sentence,) = foreign_files(tmp_path / "out", paths, "name another").sentences
    assert "4 files in" in sentence and "('a', 'b/c', 'd' and 1 more); name another, or move it aside: mv" in sentence
    assert sentence.endswith(f"mv {tmp_path}/out {tmp_path}/out.aside")
    assert f"mv {tmp_path} {tmp_path}.aside" in foreign(tmp_path / "x" / "..").sentences[0], "a place that can be moved"


def test_what_stands_in_the_way(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    assert not is_in_the_way(path, "sample", "a")
    path.write_text(json.dumps({"mark": mark_of("sample", "a")}))
    assert not is_in_the_way(path, "sample", "a")
    assert is_in_the_way(path, "sample", "b")
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    assert is_in_the_way(tmp_path / "link", "sample", "a")
    assert is_in_the_way(tmp_path, "sample", "a")


def test_an_archive_carries_a_mark_and_holds_what_it_held(tmp_path: Path) -> None:
    path, mark = tmp_path / "a.pth", mark_of("features", "🎈" * 1000)
    tensors = {"a": torch.arange(5.0), "b": torch.ones(2, 2)}
    torch.save(tensors, path)
    before = path.read_bytes()
    assert archive_mark(path) is None
    mark_archive_(path, mark)
    assert archive_mark(path) == mark
    assert path.read_bytes()[: len(before) - 2] == before[:-2]
    assert zipfile.ZipFile(path).testzip() is None
    for mmap in (True, False):
        read = torch.load(path, mmap=mmap, weights_only=True)
        assert read.keys() == tensors.keys()
        assert all(torch.equal(read[name], tensors[name]) for name in tensors)
    with pytest.raises(ValueError, match="no archive without a comment"):
        mark_archive_(path, mark)
    with pytest.raises(ValueError, match="comment has at most"):
        mark_archive_(path, mark_of("features", "x" * (1 << 16)))
    torch.save(torch.load(path, weights_only=True), path)
    assert archive_mark(path) is None, "who writes it anew makes it his own"
    path.write_bytes(b"short")
    assert archive_mark(path) is archive_mark(tmp_path) is archive_mark(tmp_path / "none") is None
    with pytest.raises(ValueError, match="no archive"):
        mark_archive_(path, mark)


def test_links_in_a_circle_are_said(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    for path in (tmp_path / "a", tmp_path / "b" / "below"):
        with pytest.raises(UserError, match="leads back to itself"):
            at_end_of_links(path)
    (tmp_path / "c").symlink_to("d/e")
    assert at_end_of_links(tmp_path / "c") == tmp_path.resolve() / "d" / "e"
