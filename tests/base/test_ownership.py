"""Marks: what is ours by its content, and what becomes of what is not."""

import json
from pathlib import Path

import pytest

from mmaudio.base.ownership import aside_path, fits, foreign, mark_of, mark_text, move_aside, parse_mark, read_mark


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
