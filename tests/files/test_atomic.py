"""Atomic writes: the old content or the whole new one, and nothing left behind."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mmaudio.base.errors import UserError
from mmaudio.files.atomic import (
    atomic_folder,
    atomic_path,
    check_replaceable,
    parse_json,
    remove_leftovers,
    sweep_below,
    text_hash,
    write_json,
    write_text,
)


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


WRITE_AND_HANG = """
import sys, time
from pathlib import Path
from mmaudio.files.atomic import atomic_path
with atomic_path(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    print("begun", flush=True)
    time.sleep(600)
"""


def writing(path: Path) -> subprocess.Popen[str]:
    """A process in the middle of writing `path`."""
    process = subprocess.Popen([sys.executable, "-c", WRITE_AND_HANG, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    return process


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    with writing(tmp_path / "a" / "x") as dead, writing(tmp_path / "b" / "y") as alive:
        dead.kill()
        dead.wait()
        sweep_below(tmp_path)
        assert names_in(tmp_path / "a") == []
        assert len(names_in(tmp_path / "b")) == 1
        alive.kill()
        alive.wait()
    write_text(tmp_path / "b" / "z", "new")
    assert len(names_in(tmp_path / "b")) == 2  # a write sweeps nothing by itself
    remove_leftovers(tmp_path / "b" / "y")
    assert names_in(tmp_path / "b") == ["z"]


@pytest.mark.parametrize(
    "content", ["", "{}", '{"program": "mmaudio"}', '{"program": "mmaudio", "format": 1, "kind": "temporary", "of": "other"}']
)
def test_what_is_only_called_like_a_temporary_folder_stays(tmp_path, content):
    mine = tmp_path / ".mmaudio-0123456789abcdef.tmp"
    mine.mkdir()
    (mine / ".mmaudio-owner").write_text(content)
    (mine / "song.flac").write_text("mine")
    (tmp_path / ".mmaudio-1123456789abcdef.tmp").write_text("a file")
    (tmp_path / ".mmaudio-2123456789abcdef.tmp").symlink_to(mine)
    sweep_below(tmp_path)
    write_text(tmp_path / "new", "new")
    assert (mine / "song.flac").read_text() == "mine"
    assert len(names_in(tmp_path)) == 4


def test_links_stay_links(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "real")
    (tmp_path / "linked.txt").symlink_to("elsewhere/a.txt")
    for text in ("one", "two"):
        with atomic_folder(tmp_path / "link", ["*"]) as temporary:
            (temporary / text).write_text(text)
        write_text(tmp_path / "linked.txt", text)
        assert names_in(tmp_path / "elsewhere" / "real") == [text]
        assert (tmp_path / "elsewhere" / "a.txt").read_text() == text
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "linked.txt").is_symlink()
    assert names_in(tmp_path) == ["elsewhere", "link", "linked.txt"]
    assert names_in(tmp_path / "elsewhere") == ["a.txt", "real"]


def test_nothing_is_given_up_before_the_swap_is_certain(tmp_path):
    path = tmp_path / "store"
    with atomic_folder(path, ["*"]) as temporary:
        (temporary / "old").touch()

    def fail() -> None:
        raise OSError("no swap")

    with pytest.raises(OSError, match="no swap"), atomic_folder(path, ["*"], fail) as temporary:
        (temporary / "new").touch()
    assert names_in(path) == ["old"]
    assert names_in(tmp_path) == ["store"]


KILLED_IN_A_SWAP = """
import os, signal, sys
from pathlib import Path
from mmaudio.files.atomic import atomic_folder
with atomic_folder(Path(sys.argv[1]), ["*"], lambda: os.kill(os.getpid(), signal.SIGKILL)) as temporary:
    (temporary / "new").touch()
"""


@pytest.mark.parametrize("is_taken", [False, True])
def test_a_folder_that_a_killed_process_moved_away_is_put_back(tmp_path, is_taken):
    path = tmp_path / "store"
    path.mkdir()
    (path / "old").touch()
    assert subprocess.run([sys.executable, "-c", KILLED_IN_A_SWAP, str(path)], check=False).returncode == -9
    assert not path.exists()
    if is_taken:  # by its user, meanwhile
        path.mkdir()
    remove_leftovers(path)
    assert names_in(tmp_path) == (["store", "store.aside"] if is_taken else ["store"])
    assert names_in(tmp_path / ("store.aside" if is_taken else "store")) == ["old"]


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


def test_what_is_not_ours_may_be_moved_aside_once_the_new_folder_is_whole(tmp_path):
    path, aside = tmp_path / "page", tmp_path / "page.aside"
    path.mkdir()
    (path / "mine").write_text("mine")

    def fail() -> None:
        raise OSError("no swap")

    with pytest.raises(ZeroDivisionError), atomic_folder(path, ["index.html"], aside=aside):
        _ = 1 / 0
    with pytest.raises(OSError, match="no swap"), atomic_folder(path, ["index.html"], fail, aside=aside):
        pass
    assert [file.name for file in tmp_path.iterdir()] == ["page"]
    with atomic_folder(path, ["index.html"], aside=aside) as temporary:
        (temporary / "index.html").write_text("new")
        assert (path / "mine").exists()
    assert (path / "index.html").read_text() == "new"
    assert (aside / "mine").read_text() == "mine"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["page", "page.aside"]


def test_json_that_is_nested_too_deep_is_no_json():
    assert parse_json('[{"a": 1}]') == [{"a": 1}]
    for text in ("[" * 100_000, b"[" * 100_000, "["):
        with pytest.raises(ValueError):
            parse_json(text)
