"""What a store holds after it was written, and what writing refuses."""

import json

import pytest
import torch
from tensordict import TensorDict

from mmaudio.base.errors import UserError
from mmaudio.base.specs import AudioSpec
from mmaudio.files.atomic import text_hash
from mmaudio.store import Block, StoreRecord, write_store
from mmaudio.store.format import columns, hash_rows, record_path, table_path
from tests.store.examples import ODD_TEXTS, SPEC, blocks_of, features, index_of, make_store, open_store, text_of


def write(folder, name="s", **options):
    index = options.pop("index", index_of(5))
    blocks = options.pop("blocks", None)
    settings = {"kind": "audio", "layout": "compact", "spec": SPEC, "backend": "lite", "null_text": text_of(""), **options}
    blocks = blocks_of(index, features(settings["kind"], len(index))) if blocks is None else blocks
    return write_store(folder, name, index=index, blocks=blocks, **settings)


@pytest.mark.parametrize("kind", ["video", "audio"])
@pytest.mark.parametrize("layout", ["compact", "published"])
def test_tensordict_opens_it_and_finds_what_was_given(tmp_path, kind, layout):
    index, values = index_of(7), features(kind, 7)
    make_store(tmp_path, "s", kind, index, values, layout=layout)
    found = TensorDict.load_memmap(tmp_path / "s")
    text = torch.stack([text_of(caption) for _, caption in index])
    for name in ("mean", "std"):
        assert torch.equal(found[name], values[name])
    for name in set(values) - {"mean", "std"}:
        assert torch.equal(found[name], values[name].to(torch.float32 if layout == "published" else torch.bfloat16))
    if layout == "published":
        assert {str(found[name].dtype) for name in found.keys()} == {"torch.float32"}  # noqa: SIM118 - iterating it takes rows
        assert list(found.keys()) == [*values, "text_features"]
        assert torch.equal(found["text_features"], text)
    else:
        assert found["text_table"].shape == (3, 77, 1024)
        assert found["text_row"].dtype == torch.int32
        assert torch.equal(found["text_table"][found["text_row"].long()].float(), text)
        assert torch.equal(found["null_text"].float(), text_of(""))
    column = {"video": "label", "audio": "caption"}[kind]
    assert table_path(tmp_path / "s").read_text().splitlines()[:2] == [f"id\t{column}", "row0\tcaption 0"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_features_take_the_dtype_asked_for_and_latents_stay_float32(tmp_path, dtype):
    record = write(tmp_path, kind="video", dtypes=dict.fromkeys(("clip_features", "sync_features", "text"), dtype))
    name = str(dtype).removeprefix("torch.")
    wanted = dict.fromkeys(("clip_features", "sync_features", "text_table", "null_text"), name) | {"text_row": "int32"}
    assert record.dtypes == wanted | {"mean": "float32", "std": "float32"}
    store = open_store(tmp_path, "s")
    assert store.gather(torch.tensor([1]))["sync_features"].dtype == dtype


def test_record_says_what_made_it(tmp_path):
    index = index_of(5)
    given = write(tmp_path, kind="video", weights={"clip": "abc"}, frame_rule="ffmpeg")
    content = json.loads(record_path(tmp_path / "s").read_text())
    assert StoreRecord.from_json(content, "record") == given
    assert (given.mode, given.duration_s, given.backend, given.kind, given.layout) == ("16k", 0.64, "lite", "video", "compact")
    assert (given.num_rows, given.weights, given.frame_rule) == (5, {"clip": "abc"}, "ffmpeg")
    assert given.rows_hash == text_hash([text for pair in index for text in pair])
    assert set(given.versions) == {"mmaudio", "torch", "tensordict"}


def test_latent_statistics_are_those_of_torch(tmp_path):
    values = features("audio", 11)
    values["mean"] = values["mean"] * torch.arange(1, 21) + 1000
    record = write(tmp_path, index=index_of(11), blocks=blocks_of(index_of(11), values, size=4))
    wanted = values["mean"].double().flatten(0, 1)
    torch.testing.assert_close(torch.tensor(record.latent_mean, dtype=torch.float64), wanted.mean(0), rtol=1e-12, atol=0)
    torch.testing.assert_close(torch.tensor(record.latent_std, dtype=torch.float64), wanted.std(0), rtol=1e-9, atol=0)


def test_block_sizes_do_not_matter(tmp_path):
    index, values = index_of(7), features("video", 7)
    for size in (1, 3, 7):
        write(tmp_path, f"s{size}", kind="video", index=index, blocks=blocks_of(index, values, size))
    files = {path.name: path.read_bytes() for path in (tmp_path / "s1").iterdir()}
    for size in (3, 7):
        assert {path.name: path.read_bytes() for path in (tmp_path / f"s{size}").iterdir()} == files


def test_ids_and_captions_come_back_as_they_went_in(tmp_path):
    index = [(f"{text}", other) for text, other in zip(ODD_TEXTS, reversed(ODD_TEXTS), strict=True)]
    for layout in ("compact", "published"):
        store = make_store(tmp_path, layout, "audio", index, layout=layout)
        assert list(zip(store.ids, store.captions, strict=True)) == index
        assert torch.equal(store.text(torch.tensor([3])).float()[0], text_of(index[3][1]))


def test_a_dot_in_the_name_stays(tmp_path):
    make_store(tmp_path, "v1.16.memmap")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["v1.16.memmap", "v1.16.memmap.json", "v1.16.memmap.tsv"]


def test_nothing_is_left_of_a_try_that_failed_and_the_old_store_stays(tmp_path):
    make_store(tmp_path, "s", "audio")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def breaks():
        yield from blocks_of(index_of(3), features("audio", 3))
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        write(tmp_path, blocks=breaks())
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_kill_after_the_swap_never_leaves_new_rows_under_old_captions(tmp_path, monkeypatch):
    make_store(tmp_path, "s", "audio", layout="published")
    monkeypatch.setattr("mmaudio.store.writer.write_table", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, layout="published", index=[(f"other{row}", "x") for row in range(5)])
    monkeypatch.undo()
    with pytest.raises(UserError, match="was being written when that was interrupted"):
        open_store(tmp_path, "s")
    write(tmp_path, layout="published")
    assert open_store(tmp_path, "s").ids[0] == "row0"


def wrong_blocks(how):
    index, values = index_of(5), features("audio", 5)
    if how == "too few":
        return blocks_of(index[:3], values)
    if how == "too many":
        return blocks_of(index_of(6), features("audio", 6))
    if how == "another order":
        return blocks_of(index[::-1], values)
    block = next(blocks_of(index, values, 5))
    if how == "no text":
        return [Block(block.ids, block.captions, block.columns, {})]
    if how == "missing column":
        return [Block(block.ids, block.captions, {"mean": block.columns["mean"]}, block.texts)]
    if how == "uneven":
        return [Block(block.ids, block.captions, {**block.columns, "std": block.columns["std"][:2]}, block.texts)]
    return [Block(block.ids, block.captions, {**block.columns, "mean": block.columns["mean"] / 0}, block.texts)]


@pytest.mark.parametrize("how", ["too few", "too many", "another order", "no text", "missing column", "uneven", "infinite"])
def test_refuses_blocks_that_are_not_the_rows(tmp_path, how):
    with pytest.raises(ValueError):
        write(tmp_path, blocks=wrong_blocks(how))
    assert not list(tmp_path.iterdir())


def test_refuses_an_empty_or_repeated_index(tmp_path):
    with pytest.raises(UserError, match="would hold no rows"):
        write(tmp_path, index=[])
    with pytest.raises(ValueError, match="names an id twice"):
        write(tmp_path, index=[("a", "x"), ("a", "y")])
    with pytest.raises(ValueError, match="layout is 'flat'"):
        write(tmp_path, layout="flat")
    with pytest.raises(ValueError, match="kind is 'image'"):
        columns("image", SPEC)


def test_columns_of_both_modes():
    assert columns("audio", AudioSpec("44k")) == {"mean": (345, 40), "std": (345, 40)}
    wanted = {"mean": (250, 20), "std": (250, 20), "clip_features": (64, 1024), "sync_features": (192, 768)}
    assert columns("video", AudioSpec("16k")) == wanted


def test_hash_of_rows_tells_ids_from_captions():
    assert hash_rows(["a", "b"], ["c", "d"]) != hash_rows(["a", "c"], ["b", "d"])
    assert hash_rows(["ab"], ["c"]) != hash_rows(["a"], ["bc"])
