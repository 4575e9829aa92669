"""Locks on targets: one job at a time, or the processes of one job together; a refusal names the holder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mmaudio.base.errors import UserError
from mmaudio.files import locks
from mmaudio.files.locks import hold_target

HOLD = """
import sys, time
from pathlib import Path
from mmaudio.files.locks import hold_target
with hold_target(Path(sys.argv[1]), "the store", shared_by=sys.argv[2] or None):
    print("held", flush=True)
    sys.stdin.read()
"""


def holding(target: Path, shared_by: str = "") -> subprocess.Popen[str]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process: subprocess.Popen[str] = subprocess.Popen([sys.executable, "-c", HOLD, str(target), shared_by], **pipes)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "PATIENCE_S", 0.0)


def test_another_job_is_refused_by_name_also_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "store")
    with holding(tmp_path / "store") as holder:
        for place in ("store", "link"):
            with pytest.raises(UserError, match=rf"another job is writing the store: process {holder.pid} on {os.uname().nodename}, since"):
                hold_target(tmp_path / place, "the store").__enter__()
        with pytest.raises(UserError, match="another job"):
            hold_target(tmp_path / "store", "the store", shared_by="a").__enter__()
        holder.kill()
        holder.wait()
        with hold_target(tmp_path / "store", "the store"):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


def test_processes_of_one_job_share_a_lock(tmp_path: Path) -> None:
    target = tmp_path / "new" / "store"
    with holding(target, "a") as first, hold_target(target, "the store", shared_by="a"):
        first.communicate("")
        with pytest.raises(UserError, match="another job"):
            hold_target(target, "the store", shared_by="b").__enter__()
        with pytest.raises(UserError, match="another job"):
            hold_target(target, "the store").__enter__()
        with holding(target, "a") as third:
            third.communicate("")
    with hold_target(target, "the store", shared_by="b"):
        pass
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize("kind", ["file", "link", "folder"])
def test_a_file_of_somebody_else_is_no_lock(tmp_path: Path, kind: str) -> None:
    place, mine = tmp_path / ".store.lock", tmp_path / "mine"
    mine.write_text("mine")
    if kind == "file":
        place.write_text("mine")
    elif kind == "link":
        place.symlink_to(mine)
    else:
        place.mkdir()
    with pytest.raises(UserError, match="not made by this program"):
        hold_target(tmp_path / "store", "the store").__enter__()
    assert mine.read_text() == "mine"
    assert os.path.lexists(place)
    assert kind != "file" or place.read_text() == "mine"


def test_a_name_that_fills_its_file_name_has_a_lock(tmp_path: Path) -> None:
    with hold_target(tmp_path / ("x" * 255), "the store"):
        assert len(list(tmp_path.iterdir())) == 1
