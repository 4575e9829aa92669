"""Raw columns against the files of the published system, and what reading them refuses."""

import errno
import json
import os

import numpy as np
import pytest
import torch
from tensordict import TensorDict

from mmaudio.base.errors import UserError
from mmaudio.store import column_writer as files_module
from mmaudio.store.column_writer import ColumnWriter
from mmaudio.store.columns import open_columns
from tests.golden.fill import GOLDEN, given

DESCRIBED = json.loads((GOLDEN / "data_memmap.json").read_text(encoding="utf-8"))


def write(folder, values):
    folder.mkdir(exist_ok=True)
    shapes = {name: tuple(value.shape) for name, value in values.items()}
    with ColumnWriter.new(folder, shapes, {name: value.dtype for name, value in values.items()}) as files:
        for name, value in values.items():
            files.append(name, value[:1])
            files.append(name, value[1:])


@pytest.mark.parametrize("kind", ["video", "audio"])
def test_files_are_those_of_the_published_system(tmp_path, kind):
    shapes = {name: entry["shape"] for name, entry in DESCRIBED[kind]["meta_json"].items() if isinstance(entry, dict)}
    write(tmp_path, {name: given(f"memmap:{kind}:{name}", *shape) for name, shape in shapes.items()})
    assert {path.name: path.stat().st_size for path in tmp_path.iterdir() if path.suffix == ".memmap"} == {
        name: size for name, size in DESCRIBED[kind]["files"].items() if name.endswith(".memmap")
    }
    assert {path.name for path in tmp_path.iterdir()} == set(DESCRIBED[kind]["files"])
    golden = np.load(GOLDEN / "data_memmap.npz")
    for name in shapes:
        assert (tmp_path / f"{name}.memmap").read_bytes() == golden[f"{kind}/{name}.memmap"].tobytes(), name
    # Another release of TensorDict may add keys of its own; those of the published file are there, in its order.
    wanted, found = DESCRIBED[kind]["meta_json"], json.loads((tmp_path / "meta.json").read_text(encoding="utf-8"))
    assert list(found)[: len(shapes)] == list(wanted)[: len(shapes)]
    assert {name: found[name] for name in shapes} == {name: wanted[name] for name in shapes}
    assert (found["shape"], found["device"], found["_type"]) == (wanted["shape"], wanted["device"], wanted["_type"])


def test_reads_the_minimal_meta_of_the_published_system(tmp_path):
    for name, raw in np.load(GOLDEN / "data_memmap.npz").items():
        if name.startswith("audio/"):
            (tmp_path / name.removeprefix("audio/")).write_bytes(raw.tobytes())
    meta = {name: {"device": "cpu", "shape": [3, 5, 4], "dtype": "torch.float32"} for name in ("mean", "std")}
    meta |= {"text_features": {"device": "cpu", "shape": [3, 7, 6], "dtype": "torch.float32"}}
    meta |= {"shape": [], "device": "cpu", "_type": "<class 'tensordict._td.TensorDict'>"}
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    opened = open_columns(tmp_path, "a store")
    assert set(opened) == {"mean", "std", "text_features"}
    assert torch.equal(opened["mean"].slice(1, 3), given("memmap:audio:mean", 3, 5, 4)[1:])
    assert torch.equal(TensorDict.load_memmap(tmp_path)["text_features"], opened["text_features"].slice(0, 3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int32])
def test_every_dtype_comes_back(tmp_path, dtype):
    values = (torch.randn(6, 3, generator=torch.Generator().manual_seed(0)) * 100).to(dtype)
    write(tmp_path, {"x": values})
    assert torch.equal(TensorDict.load_memmap(tmp_path)["x"], values)
    column = open_columns(tmp_path, "a store")["x"]
    assert column.dtype == dtype
    assert column.shape == (6, 3)
    assert torch.equal(column.slice(0, 6), values)
    rows, places = np.array([4, 0, 4, 2]), np.array([1, 0, 3, 2])
    out = torch.zeros(5, 3, dtype=dtype)
    column.copy_rows_(out, rows, places)
    assert torch.equal(out[places], values[rows])
    assert not out[4].any()
    if dtype.is_floating_point:
        wide = torch.zeros(5, 3)
        column.copy_rows_(wide, rows, places)
        assert torch.equal(wide[places], values[rows].float())


def test_rows_that_are_not_there(tmp_path):
    write(tmp_path, {"x": torch.ones(3, 2)})
    column = open_columns(tmp_path, "a store")["x"]
    for row in (-1, 3):
        with pytest.raises(IndexError, match=r"column x, which has 3"):
            column.copy_rows_(torch.empty(1, 2), np.array([row]), np.array([0]))


def test_no_rows_at_all(tmp_path):
    write(tmp_path, {"x": torch.ones(3, 2)})
    nothing = np.zeros(0, np.int64)
    out = torch.full((2, 2), 7.0)
    open_columns(tmp_path, "a store")["x"].copy_rows_(out, nothing, nothing)
    assert (out == 7).all()


def test_a_file_cut_short_while_in_use_is_an_error_not_a_crash(tmp_path):
    write(tmp_path, {"x": torch.ones(3, 2)})
    column = open_columns(tmp_path, "a store")["x"]
    with open(tmp_path / "x.memmap", "r+b") as file:
        file.truncate(10)
    with pytest.raises(OSError, match="cut short"):
        column.slice(0, 3)


@pytest.mark.parametrize("wide", [False, True])
def test_rows_that_are_not_in_memory_are_announced_and_then_read(tmp_path, monkeypatch, wide):
    values = torch.randn(40, 3000, generator=torch.Generator().manual_seed(0)).bfloat16()
    write(tmp_path, {"x": values})
    column, plain, advise, steps = open_columns(tmp_path, "a store")["x"], os.preadv, os.posix_fadvise, []

    def cold(handle, buffers, at, flags=0):
        """Memory holds no row but the first half of row 17."""
        if flags == os.RWF_NOWAIT:
            if at != 17 * 6000:
                raise BlockingIOError
            return plain(handle, [buffers[0][:3000]], at)
        steps.append(("read", at))
        return plain(handle, buffers, at)

    monkeypatch.setattr(os, "preadv", cold)
    monkeypatch.setattr(os, "posix_fadvise", lambda *words: (steps.append(("announced", words[1])), advise(*words)))
    rows = np.array([31, 2, 17])
    out = torch.zeros(3, 3000, dtype=torch.float32 if wide else torch.bfloat16)
    column.copy_rows_(out, rows, np.arange(3))
    assert torch.equal(out, values[rows].to(out.dtype))
    missing = [2 * 6000, 17 * 6000 + 3000, 31 * 6000]
    assert steps == [("announced", at) for at in missing] + [("read", at) for at in missing]
    monkeypatch.setattr(os, "preadv", plain)
    steps.clear()
    column.copy_rows_(out, rows, np.arange(3))
    assert steps == [], "memory holds them now"


def test_a_file_system_that_does_not_tell_what_is_in_memory(tmp_path, monkeypatch):
    values = torch.randn(6, 3)
    write(tmp_path, {"x": values})
    column, plain = open_columns(tmp_path, "a store")["x"], os.preadv
    asked = []

    def unsupported(handle, buffers, at, flags=0):
        if flags:
            asked.append(at)
            raise OSError(errno.EOPNOTSUPP, "not supported")
        return plain(handle, buffers, at)

    monkeypatch.setattr(os, "preadv", unsupported)
    out = torch.zeros(3, 3)
    column.copy_rows_(out, np.array([5, 0, 2]), np.array([0, 1, 2]))
    assert torch.equal(out, values[[5, 0, 2]])
    assert asked == [0], "once is enough"


def test_warming_reads_all_of_a_column(tmp_path):
    write(tmp_path, {"x": torch.ones(3, 2)})
    column = open_columns(tmp_path, "a store")["x"]
    assert column.warm(np.empty(7, np.uint8)) == 24
    with open(tmp_path / "x.memmap", "r+b") as file:
        file.truncate(10)
    with pytest.raises(OSError, match="cut short"):
        column.warm(np.empty(7, np.uint8))


def test_refuses_wrong_rows(tmp_path):
    with ColumnWriter.new(tmp_path, {"x": (3, 2)}, {"x": torch.float16}) as files:
        with pytest.raises(ValueError, match=r"shape \(3,\); want \(2,\)"):
            files.append("x", torch.ones(1, 3))
        with pytest.raises(ValueError, match=r"not finite as torch\.float16"):
            files.append("x", torch.full((1, 2), 1e6))


def test_files_are_as_readable_as_any_other(tmp_path):
    write(tmp_path, {"x": torch.ones(3, 2)})
    assert (tmp_path / "x.memmap").stat().st_mode == (tmp_path / "meta.json").stat().st_mode


def test_full_disk_is_found_before_writing(tmp_path, monkeypatch):
    monkeypatch.setattr(files_module.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 10})())
    with pytest.raises(UserError, match=r"MB more and its disk has 0\.0 MB left"):
        write(tmp_path, {"x": torch.ones(3000, 2000)})
    assert not list(tmp_path.iterdir())


def damaged(folder, how):
    meta = json.loads((folder / "meta.json").read_text())
    if how == "no meta":
        (folder / "meta.json").unlink()
    elif how == "no json":
        (folder / "meta.json").write_text("{")
    elif how == "a list":
        (folder / "meta.json").write_text("[]")
    elif how == "no file":
        (folder / "x.memmap").unlink()
    elif how == "short":
        with open(folder / "x.memmap", "r+b") as file:
            file.truncate(10)
    else:
        (folder / "meta.json").write_text(json.dumps({"x": meta["x"] | {"dtype": "torch.complex64"}}))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("no meta", "has no .*meta.json"),
        ("no json", "not the description"),
        ("a list", "not the description"),
        ("no file", "has no file .*x.memmap"),
        ("short", "10 bytes where its meta.json says 24"),
        ("dtype", r"dtype torch\.complex64"),
    ],
)
def test_damage_is_one_sentence(tmp_path, how, said):
    write(tmp_path, {"x": torch.ones(3, 2)})
    damaged(tmp_path, how)
    with pytest.raises(UserError, match=said) as caught:
        open_columns(tmp_path, "a store")
    assert len(caught.value.sentences) == 1
