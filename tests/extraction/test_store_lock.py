"""One job at a time writes a store: another one is refused by name, whatever folder its work lies in; processes of one job share it."""

import json
import os
import shutil
import subprocess
import sys
import time

import pytest

from mmaudio.base.errors import UserError
from mmaudio.base.machine import child_environment
from mmaudio.extraction.row_writer import RowWriter
from mmaudio.files import locks
from mmaudio.files.locks import hold_target
from mmaudio.files.tables import read_table, write_table
from tests.conftest import ROOT
from tests.extraction.test_extract import CAPTIONS, LITE, VIDEO_SCRIPT, content, extract, videos  # noqa: F401 - a fixture

ROWS = list(CAPTIONS.items())


@pytest.fixture(autouse=True)
def _no_patience(monkeypatch):
    monkeypatch.setattr(locks, "PATIENCE_S", 0.1)


def refused(ended, folder):
    told = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    wanted = f"error: another job is writing the store {folder}: process {os.getpid()} on {os.uname().nodename}, since "
    assert (ended.code, len(told), "Traceback" in ended.err) == (2, 1, False), ended.err
    assert told[0].startswith(wanted)


@pytest.mark.parametrize("through_link", [False, True])
def test_a_store_that_is_being_written_is_refused(run_script, run_command, videos, tmp_path, through_link):  # noqa: F811
    """To a new extraction, to one that adds, to one that replaces, and to a conversion."""
    out, folder = tmp_path / "out", tmp_path / "out" / "some.name"
    write_table(tmp_path / "some.tsv", ("id", "label"), ROWS[:2])
    some = ("--tsv", tmp_path / "some.tsv")
    assert extract(run_script, videos, out, *some).code == 0
    assert extract(run_script, videos, tmp_path / "other", *some).code == 0
    if through_link:
        shutil.move(folder, tmp_path / "elsewhere")
        folder.symlink_to(tmp_path / "elsewhere")
    before = content(out)
    with hold_target(tmp_path / "elsewhere" if through_link else folder, "it"):
        for more in ((), ("--append",), ("--replace",), (*some, "--append"), (*some, "--layout", "published", "--replace")):
            if more == (*some, "--append"):
                assert "nothing to add" in extract(run_script, videos, out, *more).out
            else:
                refused(extract(run_script, videos, out, *more) if more != () else extract(run_script, videos, out, *some), folder)
            assert not (out / "parts").exists()
        refused(run_command("store", "convert", tmp_path / "other" / "some.name", folder, "--layout", "compact", "--replace"), folder)
    assert content(out) == before
    assert extract(run_script, videos, out, "--append").code == 0
    assert not list(tmp_path.rglob("*.lock"))


def test_processes_of_one_extraction_share_the_store_and_no_others(run_script, videos, tmp_path, monkeypatch):  # noqa: F811
    folder, keep, said = tmp_path / "some.name", RowWriter.keep, []

    def asks(recorder, number, *row):
        keep(recorder, number, *row)
        (lock,) = tmp_path.glob(".*.lock")
        with hold_target(folder, "it", shared_by=json.loads(lock.read_text())["of"]):
            said.append(number)
        with pytest.raises(UserError, match=f"another job is writing it: process {os.getpid()} on "):
            hold_target(folder, "it", shared_by="others").__enter__()

    monkeypatch.setattr(RowWriter, "keep", asks)
    assert extract(run_script, videos, tmp_path).code == 0
    assert said == [0, 1, 2, 3, 4] * 2, "rows and captions"
    assert not list(tmp_path.glob(".*.lock"))


def test_a_store_that_came_after_the_plan_is_not_lost(run_script, videos, tmp_path, monkeypatch):  # noqa: F811
    """Before any work: another job ended between the look at the place and the lock."""
    from mmaudio.extraction import pipeline as extraction

    write_table(tmp_path / "some.tsv", ("id", "label"), ROWS[:2])
    assert extract(run_script, videos, tmp_path / "one", "--tsv", tmp_path / "some.tsv").code == 0

    def comes(*words, **options):
        shutil.copytree(tmp_path / "one", tmp_path / "two", dirs_exist_ok=True)
        return hold_target(*words, **options)

    write_table(tmp_path / "rest.tsv", ("id", "label"), ROWS[2:])
    with monkeypatch.context() as patch:
        patch.setattr(extraction, "hold_target", comes)
        ended = extract(run_script, videos, tmp_path / "two", "--tsv", tmp_path / "rest.tsv")
    assert (ended.code, "extract video" in ended.out) == (2, False)
    assert "2 of its 2 rows" in ended.err
    assert content(tmp_path / "two" / "some.name") == content(tmp_path / "one" / "some.name")


def start(videos, table, latent_dir, output, *launcher):  # noqa: F811
    places = ("--latent_dir", latent_dir, "--output_dir", output, "--name", "s")
    command = [sys.executable, *launcher, VIDEO_SCRIPT, "--data_dir", videos / "clips", "--tsv", table, *places, *LITE]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT, "env": child_environment()}
    return subprocess.Popen([str(word) for word in command], **pipes)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_of_two_extractions_of_other_rows_one_makes_the_store_and_the_other_says_why_not(videos, tmp_path, processes):  # noqa: F811
    launcher = ("-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}") if processes > 1 else ()
    shutil.copytree(videos / "clips", tmp_path / "clips")
    names = [f"v{number}" for number in range(60)]
    for name in names:  # enough work that both are at it
        shutil.copy(videos / "clips" / "NA.mp4", tmp_path / "clips" / f"{name}.mp4")
    tables = [tmp_path / "one.tsv", tmp_path / "two.tsv"]
    for number, table in enumerate(tables):
        write_table(table, ("id", "label"), [(name, "x") for name in names[number::2]])
    runs = [start(tmp_path, table, tmp_path / f"{table.stem}-parts", tmp_path / "out", *launcher) for table in tables]
    said = [run.communicate(timeout=300) for run in runs]
    codes = [run.returncode for run in runs]
    assert sorted(codes) == ([0, 2] if processes == 1 else [0, 1]), said
    first = codes.index(0)
    told = [line for line in said[1 - first][1].splitlines() if line.startswith("error: ")]
    assert len(told) == 1 and "another job is writing the store" in told[0] and VIDEO_SCRIPT in told[0]
    assert read_table(tmp_path / "out" / "s.tsv").column("id") == names[first::2]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["s", "s.json", "s.tsv"]


@pytest.mark.slow
def test_a_lock_ends_with_its_processes(videos, tmp_path):  # noqa: F811
    write_table(tmp_path / "one.tsv", ("id", "label"), ROWS[:1])
    running = start(videos, videos / "set.tsv", tmp_path / "parts", tmp_path / "out")
    until = time.monotonic() + 60
    while not list((tmp_path / "out").glob(".*.lock")):
        assert time.monotonic() < until
        time.sleep(0.01)
    running.kill()
    running.communicate()
    other = start(videos, tmp_path / "one.tsv", tmp_path / "other-parts", tmp_path / "out")
    _, err = other.communicate(timeout=120)
    assert other.returncode == 0, err
