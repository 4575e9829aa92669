"""Stores of both layouts and of the published system, read back; and every way in which their parts may not fit."""

import json

import numpy as np
import pytest
import torch
from tensordict import TensorDict

from mmaudio.base.errors import UserError
from mmaudio.store import Store, record_path, table_path
from tests.golden.fill import GOLDEN, given
from tests.store.examples import features, forget_record, index_of, make_store, open_store, text_of


@pytest.mark.parametrize("kind", ["video", "audio"])
@pytest.mark.parametrize("layout", ["compact", "published"])
def test_gathers_the_asked_rows(tmp_path, kind, layout):
    index, values = index_of(9), features(kind, 9)
    store = make_store(tmp_path, "s", kind, index, values, layout=layout)
    assert (store.name, store.kind, store.layout, store.num_rows) == ("s", kind, layout, 9)
    assert (store.num_latents, store.latent_channels) == (20, 20)
    assert (store.num_clip, store.num_sync) == ((5, 8) if kind == "video" else (0, 0))
    rows = torch.tensor([7, 0, 0, 3])
    found = store.gather(rows)
    assert list(found) == list(values) == list(store.feature_names)
    for name, value in values.items():
        stored = value if layout == "published" or name in ("mean", "std") else value.bfloat16()
        assert torch.equal(found[name], stored[rows])
        assert found[name].is_contiguous()
    assert torch.equal(store.text(rows).float(), torch.stack([text_of(index[row][1]) for row in rows]))
    null_text = store.null_text()
    assert null_text is not None
    assert torch.equal(null_text.float(), text_of(""))
    for row in (9, -1):
        with pytest.raises(IndexError):
            store.gather(torch.tensor([row]))
        with pytest.raises(IndexError):
            store.text(torch.tensor([row]))


def test_what_is_gathered_is_a_copy(tmp_path):
    store = make_store(tmp_path, "s")
    before = (tmp_path / "s" / "mean.memmap").read_bytes()
    store.gather(torch.tensor([0]))["mean"].fill_(7)
    assert (tmp_path / "s" / "mean.memmap").read_bytes() == before


def test_opens_read_only_files(tmp_path):
    make_store(tmp_path, "s")
    for path in (tmp_path / "s").iterdir():
        path.chmod(0o444)
    assert open_store(tmp_path, "s").gather(torch.tensor([2]))["mean"].shape == (1, 20, 20)


@pytest.mark.parametrize("layout", ["compact", "published"])
def test_statistics_recorded_or_scanned(tmp_path, layout, monkeypatch):
    values = features("audio", 9)
    store = make_store(tmp_path, "s", "audio", index_of(9), values, layout=layout)
    if layout == "published":
        forget_record(tmp_path, "s")
        store = open_store(tmp_path, "s")
        monkeypatch.setattr("mmaudio.store.reader._SCAN_ROWS", 4)
        assert store.record is None
    mean_c, std_c = store.latent_statistics()
    assert mean_c.dtype == std_c.dtype == torch.float32
    torch.testing.assert_close(mean_c, values["mean"].mean((0, 1)))
    torch.testing.assert_close(std_c, values["mean"].std((0, 1)))


@pytest.mark.parametrize(("kind", "column"), [("video", "label"), ("audio", "caption"), ("audio", "label"), ("video", "caption")])
def test_opens_what_the_published_system_wrote(tmp_path, kind, column):
    values = {}
    for name, entry in json.loads((GOLDEN / "data_memmap.json").read_text())[kind]["meta_json"].items():
        if isinstance(entry, dict):
            values[name] = given(f"memmap:{kind}:{name}", *entry["shape"])
    TensorDict(values, []).memmap_(tmp_path / "vgg-train")
    (tmp_path / "any.tsv").write_text(f'id\t{column}\n00008004\tNA\n1e5\t"a ""b"""\nc\tsaid "so"\n')
    store = Store.open(tmp_path / "any.tsv", tmp_path / "vgg-train")
    assert (store.kind, store.layout, store.record, store.num_rows) == (kind, "published", None, 3)
    assert (store.num_latents, store.latent_channels, store.num_clip, store.num_sync) == (5, 4, *((2, 4) if kind == "video" else (0, 0)))
    assert (store.ids, store.captions) == (["00008004", "1e5", "c"], ["NA", 'a "b"', 'said "so"'])
    found = store.gather(torch.tensor([2, 1]))
    assert all(torch.equal(found[name], values[name][[2, 1]]) for name in found)
    assert torch.equal(store.text(torch.tensor([0])), values["text_features"][:1])
    assert store.null_text() is None


def sentences(folder, name="s"):
    with pytest.raises(UserError) as caught:
        open_store(folder, name)
    return caught.value.sentences


def test_everything_that_is_missing_is_said_at_once(tmp_path):
    said = sentences(tmp_path)
    assert len(said) == 2
    assert "no table" in said[0]
    assert "meta.json" in said[1]
    assert all(str(tmp_path / "s") in sentence for sentence in said)


def rewrite_record(folder, **changes):
    path = record_path(folder / "s")
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_another_table_is_refused(tmp_path):
    make_store(tmp_path, "s", "audio")
    table = table_path(tmp_path / "s")
    text = table.read_text()
    table.write_text(text.replace("caption 1", "caption 9", 1))
    assert "are not those that store" in sentences(tmp_path)[0]
    table.write_text(text + "one\tmore\n")
    (said,) = sentences(tmp_path)
    assert "lists 6 rows" in said
    assert "holds 5" in said
    table.write_text(text.replace("caption\n", "captoin\n", 1))
    assert "no column 'caption' or 'label'" in sentences(tmp_path)[0]
    forget_record(tmp_path, "s")
    table.write_text(text)
    assert "interrupted" in sentences(tmp_path)[0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format_version": 99}, "format version 99"),
        ({"num_rows": 4}, "tells of 4 rows"),
        ({"kind": "video"}, "kind video in compact"),
        ({"layout": "published"}, "in published layout"),
        ({"latent_mean": "x", "weights": None}, "latent_mean, weights"),
    ],
)
def test_a_record_that_does_not_fit_is_refused(tmp_path, changes, said):
    make_store(tmp_path, "s", "audio")
    rewrite_record(tmp_path, **changes)
    (sentence,) = sentences(tmp_path)
    assert said in sentence
    assert str(record_path(tmp_path / "s")) in sentence


def test_a_file_that_is_no_record_is_refused(tmp_path):
    make_store(tmp_path, "s", "audio")
    for text in ("[1]", '{"x": 1}'):
        record_path(tmp_path / "s").write_text(text)
        assert "not the record of a store" in sentences(tmp_path)[0]
    record_path(tmp_path / "s").write_text("{")
    assert "not JSON" in sentences(tmp_path)[0]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"mean": (3, 2, 4), "std": (3, 2, 4)}, "no column text_features; its columns are mean, std"),
        ({"mean": (3, 2, 4), "std": (3, 2, 4), "text_features": (3, 5, 6), "clip_features": (3, 1, 1)}, "no column sync_features"),
        ({"mean": (3, 2, 4), "std": (3, 2, 5), "text_features": (3, 5, 6)}, "mean is [3, 2, 4] and std [3, 2, 5]"),
        ({"mean": (3, 2), "std": (3, 2), "text_features": (3, 5, 6)}, "mean has shape [3, 2]"),
        ({"mean": (3, 2, 4), "std": (3, 2, 4), "text_features": (4, 5, 6)}, "text_features 4"),
        ({"mean": (3, 2, 4), "std": (3, 2, 4), "text_table": (1, 5, 6), "text_row": (3, 1)}, "text_row has shape [3, 1]"),
    ],
)
def test_columns_that_do_not_fit_are_refused(tmp_path, columns, said):
    dtypes = {"text_row": torch.int32}
    TensorDict({name: torch.zeros(shape, dtype=dtypes.get(name)) for name, shape in columns.items()}, []).memmap_(tmp_path / "s")
    table_path(tmp_path / "s").write_text("id\tlabel\na\tx\nb\tx\nc\tx\n")
    assert any(said in sentence for sentence in sentences(tmp_path))


def test_texts_beyond_the_table_are_refused(tmp_path):
    make_store(tmp_path, "s", "audio")
    np.array([0, 1, 2, 0, 9], "<i4").tofile(tmp_path / "s" / "text_row.memmap")
    assert "beyond its 3" in sentences(tmp_path)[0]


def test_memory_does_not_grow_with_the_store(tmp_path):
    """A store of 32 GB, all holes, opens and reads in the memory of the rows asked for."""
    make_store(tmp_path, "s", "audio", index_of(3), layout="published")
    forget_record(tmp_path, "s")
    num_rows = 100_000
    meta = json.loads((tmp_path / "s" / "meta.json").read_text())
    for name in ("mean", "std", "text_features"):
        meta[name]["shape"][0] = num_rows
        with open(tmp_path / "s" / f"{name}.memmap", "r+b") as file:
            file.truncate(int(np.prod(meta[name]["shape"])) * 4)
    (tmp_path / "s" / "meta.json").write_text(json.dumps(meta))
    table_path(tmp_path / "s").write_text("id\tcaption\n" + "".join(f"{row}\tx\n" for row in range(num_rows)))
    store = open_store(tmp_path, "s")
    assert not store.text(torch.tensor([num_rows - 1, 5])).any()
    assert torch.equal(store.gather(torch.tensor([1]))["mean"][0], features("audio", 3)["mean"][1])


@pytest.mark.parametrize("name", ["../outside", "/outside", "a/b", "..", "nul\0byte"])
def test_a_store_reads_no_files_of_other_folders(tmp_path, name):
    make_store(tmp_path, "s", "audio")
    np.zeros(3, "<f4").tofile(tmp_path / "outside.memmap")
    meta = json.loads((tmp_path / "s" / "meta.json").read_text())
    (tmp_path / "s" / "meta.json").write_text(json.dumps(meta | {name: {"shape": [3], "dtype": "torch.float32"}}))
    assert any("want a plain name" in sentence for sentence in sentences(tmp_path))


@pytest.mark.parametrize("entry", [{"shape": 3}, {"shape": [-1, 2, 4]}, {"shape": ["3"]}, {"shape": [1.5]}, {"dtype": []}])
def test_a_description_that_is_none_is_refused(tmp_path, entry):
    make_store(tmp_path, "s", "audio")
    meta = json.loads((tmp_path / "s" / "meta.json").read_text())
    (tmp_path / "s" / "meta.json").write_text(json.dumps(meta | {"mean": meta["mean"] | entry}))
    assert sentences(tmp_path)
