"""Atomic writes: the old content or the whole new one, and nothing left behind."""

import json
import os
import subprocess
import sys

import pytest

from mmaudio.base.errors import UserError
from mmaudio.base.files import atomic_folder, atomic_path, check_replaceable, sweep_below, text_hash, write_json, write_text


def test_text_is_written_as_given(tmp_path):
    write_text(tmp_path / "new" / "a.txt", "é\r\n\n")
    assert (tmp_path / "new" / "a.txt").read_bytes() == "é\r\n\n".encode()


def test_json(tmp_path):
    write_json(tmp_path / "a.json", {"é": [1, 2.5]})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"é": [1, 2.5]}
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", float("nan"))
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"é": [1, 2.5]}


def test_a_write_that_fails_changes_nothing(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_path(path) as temporary:
        temporary.write_text(f"half {1 / 0}")
    assert [file.name for file in tmp_path.iterdir()] == ["a"]
    assert path.read_text() == "old"
    with atomic_path(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


def test_a_folder_is_swapped_whole(tmp_path):
    path = tmp_path / "v1.16"
    for text in ("one", "two"):
        with atomic_folder(path, ["*"]) as temporary:
            (temporary / text).write_text(text)
        assert [file.name for file in path.iterdir()] == [text]
    with pytest.raises(ZeroDivisionError), atomic_folder(path, ["*"]) as temporary:
        (temporary / "three").write_text(f"half {1 / 0}")
    assert [file.name for file in path.iterdir()] == ["two"]
    assert [file.name for file in tmp_path.iterdir()] == ["v1.16"]


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    host = os.uname().nodename
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True)
    dead, alive = tmp_path / f".s.{host}-{int(done.stdout)}.tmp", tmp_path / f".s.{host}-{os.getppid()}.tmp"
    elsewhere = tmp_path / f".s.another-{int(done.stdout)}.tmp"  # its processes cannot be seen from here
    other = tmp_path / f".s.v2.{host}-{int(done.stdout)}.tmp"  # of the store `s.v2`
    for folder in (dead, alive, other, elsewhere):
        folder.mkdir()
    with atomic_folder(tmp_path / "s", ["*"]) as temporary:
        (temporary / "x").touch()
    assert not dead.exists()
    assert alive.exists()
    assert other.exists()
    assert elsewhere.exists()
    (deeper := tmp_path / "s" / f".1.pt.{host}-{int(done.stdout)}.tmp").touch()
    sweep_below(tmp_path)
    assert not other.exists()
    assert not deeper.exists()
    assert alive.exists()
    assert elsewhere.exists()


def test_hash_of_texts():
    lists = [[], [""], ["ab", "c"], ["a", "bc"], ["abc"], ["c", "ab"], ["ab", "c", ""], ["\udce9"]]
    hashes = [text_hash(texts) for texts in lists]
    assert len(set(hashes)) == len(lists)
    assert all(len(each) == 16 for each in hashes)
    assert text_hash(["ab", "c"]) == hashes[2]


def test_a_folder_of_something_else_is_not_replaced(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "weights.pth").write_text("precious")
    with pytest.raises(UserError, match="holds other files"), atomic_folder(tmp_path / "run", ["index.html", "*.png"]):
        raise AssertionError("the block must not run")
    assert (tmp_path / "run" / "weights.pth").read_text() == "precious"
    with pytest.raises(UserError, match="is a file"):
        check_replaceable(tmp_path / "run" / "weights.pth", [])
