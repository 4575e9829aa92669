"""One layout into the other and back; stores of the published system; and what the network makes of either layout."""

import json

import pytest
import torch
from torch import nn

from mmaudio.base.errors import UserError
from mmaudio.base.specs import AudioSpec
from mmaudio.network import build_network
from mmaudio.store import record_path, table_path
from mmaudio.store.convert import backend_of_store, check_output, convert_store, spec_of_store
from tests.store.examples import SPEC, features, forget_record, index_of, make_store, open_store, text_of


def convert(folder, source, name, layout, **options):
    store = open_store(folder, source)
    settings = {"spec": SPEC, "backend": "lite", "null_text": text_of(""), **options}
    convert_store(store, folder / name, layout, **settings)
    return open_store(folder, name)


def files(folder, name):
    return {path.name: path.read_bytes() for path in (folder / name).iterdir() if path.suffix == ".memmap"}


@pytest.mark.parametrize("kind", ["video", "audio"])
@pytest.mark.parametrize("block_bytes", [1, 1 << 25])
def test_compact_to_published_and_back_is_the_same(tmp_path, monkeypatch, kind, block_bytes):
    monkeypatch.setattr("mmaudio.store.convert.BLOCK_BYTES", block_bytes)
    make_store(tmp_path, "a", kind, index_of(7), weights={"clip": "abc"}, frame_rule="ffmpeg")
    record_path(tmp_path / "a").write_text(record_path(tmp_path / "a").read_text().replace('"torch": "', '"torch": "of old, '))
    published = convert(tmp_path, "a", "b", "published")
    back = convert(tmp_path, "b", "c", "compact", null_text=published.null_text())
    assert (published.layout, back.layout) == ("published", "compact")
    assert files(tmp_path, "c") == files(tmp_path, "a")
    assert table_path(tmp_path / "c").read_bytes() == table_path(tmp_path / "b").read_bytes() == table_path(tmp_path / "a").read_bytes()
    assert record_path(tmp_path / "c").read_bytes() == record_path(tmp_path / "a").read_bytes(), "what is known of the making stays"
    assert (published.record.weights, published.record.frame_rule) == ({"clip": "abc"}, "ffmpeg")
    assert published.record.versions["torch"].startswith("of old")


def test_published_to_compact_and_back_rounds_features_and_keeps_latents(tmp_path):
    index, values = index_of(7), features("video", 7)
    make_store(tmp_path, "a", "video", index, values, layout="published")
    convert(tmp_path, "a", "b", "compact")
    back = convert(tmp_path, "b", "c", "published")
    before, after = files(tmp_path, "a"), files(tmp_path, "c")
    assert all(before[f"{name}.memmap"] == after[f"{name}.memmap"] for name in ("mean", "std"))
    found = back.gather(torch.arange(7))
    assert all(torch.equal(found[name], values[name].bfloat16().float()) for name in ("clip_features", "sync_features"))
    assert back.record.rows_hash == open_store(tmp_path, "a").record.rows_hash


def test_dtypes_of_columns(tmp_path):
    make_store(tmp_path, "a", "video", layout="published")
    chosen = {"clip_features": torch.float16, "text": torch.float32}
    store = convert(tmp_path, "a", "b", "compact", dtypes=chosen)
    wanted = {"clip_features": torch.float16, "sync_features": torch.bfloat16, "text_table": torch.float32, "null_text": torch.float32}
    assert {name: store.column_dtypes[name] for name in wanted} == wanted
    assert store.record.dtypes["clip_features"] == "float16"
    again = convert(tmp_path, "b", "c", "compact", dtypes={"sync_features": torch.float32})
    assert again.column_dtypes == store.column_dtypes | {"sync_features": torch.float32}, "what is not asked for stays"


def test_numbers_beyond_the_new_dtype_are_named(tmp_path):
    values = features("video", 5)
    values["sync_features"][3, 0, 0] = 1e6
    make_store(tmp_path, "a", "video", index_of(5), values, layout="published")
    with pytest.raises(UserError, match=r"sync_features of row 3 \(id 'row3'\) .* not finite as float16"):
        convert(tmp_path, "a", "b", "compact", dtypes={"sync_features": torch.float16})
    assert not (tmp_path / "b").exists()
    convert(tmp_path, "a", "b", "compact")
    with pytest.raises(UserError, match="the null text holds numbers that are not finite"):
        convert(tmp_path, "a", "c", "compact", null_text=text_of("") / 0)


def change_text(folder, row, by):
    path = folder / "text_features.memmap"
    texts = torch.from_file(str(path), shared=True, size=path.stat().st_size // 4).view(-1, 77 * 1024)
    texts[row] *= by


def test_texts_that_do_not_belong_to_their_captions_are_refused(tmp_path):
    make_store(tmp_path, "a", "audio", index_of(7), layout="published")
    change_text(tmp_path / "a", 4, 1 + 1e-6)
    store = convert(tmp_path, "a", "b", "compact", dtypes={"text": torch.float32})
    assert torch.equal(store.text(torch.tensor([4]))[0], text_of("caption 1")), "the first row of a caption speaks for all"
    change_text(tmp_path / "a", 4, 1.1)
    with pytest.raises(UserError, match=r"rows 1 \(id 'row1'\) and 4 \(id 'row4'\) .* have the caption 'caption 1'"):
        convert(tmp_path, "a", "c", "compact")
    assert not (tmp_path / "c").exists() and not table_path(tmp_path / "c").exists()


def test_a_repeated_id_is_refused(tmp_path):
    make_store(tmp_path, "a", "audio", index_of(3), layout="published")
    forget_record(tmp_path, "a")
    table_path(tmp_path / "a").write_text("id\tcaption\nx\tcaption 0\ny\tcaption 1\nx\tcaption 2\n")
    with pytest.raises(UserError, match=r"rows 0 and 2 .* one id, 'x'"):
        convert(tmp_path, "a", "b", "compact")


def published_system(folder, kind, spec):
    make_store(folder, "a", kind, index_of(2), features(kind, 2, spec), spec=spec, layout="published")
    forget_record(folder, "a")
    return open_store(folder, "a")


@pytest.mark.parametrize("mode", ["16k", "44k"])
@pytest.mark.parametrize("kind", ["video", "audio"])
@pytest.mark.parametrize("duration_s", [8.0, 1.0, 0.7, 9.28, 4.125])
def test_mode_and_duration_by_the_lengths(tmp_path, mode, kind, duration_s):
    store = published_system(tmp_path, kind, AudioSpec(mode, duration_s))
    found = spec_of_store(store)
    assert (found.mode, found.num_latents) == (mode, store.num_latents)
    if kind == "video" or duration_s == 8.0:
        assert (found.num_clip_frames, found.num_sync_tokens) == (store.num_clip or 64, store.num_sync or 192)
    if duration_s in (8.0, 1.0):
        assert found.duration_s == duration_s
    assert spec_of_store(store, duration_s) == AudioSpec(mode, duration_s)
    with pytest.raises(UserError, match="--duration 3 gives others"):
        spec_of_store(store, 3.0)
    record = convert_store(store, tmp_path / "b", "compact", spec=found, backend="pretrained", null_text=text_of(""))
    assert (record.mode, record.backend, record.weights) == (mode, "pretrained", {})


def test_the_record_knows_better(tmp_path):
    store = make_store(tmp_path, "a")
    assert spec_of_store(store) == SPEC
    assert backend_of_store(store, None) == backend_of_store(store, "lite") == "lite"
    with pytest.raises(UserError, match="made by the lite backend and not by pretrained"):
        backend_of_store(store, "pretrained")
    with pytest.raises(UserError, match="--duration is 8"):
        spec_of_store(store, 8.0)
    path = record_path(tmp_path / "a")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"duration_s": 8.0}))
    with pytest.raises(UserError, match="do not have the lengths of its record"):
        spec_of_store(open_store(tmp_path, "a"))


def test_the_store_is_never_written_onto_itself_nor_anything_else(tmp_path):
    store = make_store(tmp_path, "a")
    tsv = table_path(tmp_path / "a")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    (tmp_path / "things").mkdir()
    (tmp_path / "things" / "thesis.txt").write_text("years of work")
    (tmp_path / "new.tsv").write_text("a table of something else")
    for output, said in (
        ("a", "is the store itself"),
        ("link", "is the store itself"),
        ("a/b", "lies in it"),
        ("things", "things was not made by this program"),
        ("new", "new.tsv was not made by this program"),
    ):
        with pytest.raises(UserError, match=said):
            check_output(store, [tsv], tmp_path / output)
    with pytest.raises(UserError, match="which it is made from"):
        check_output(store, [tmp_path / "b.empty_string.pth"], tmp_path / "b")
    check_output(store, [tsv], tmp_path / "b")
    convert(tmp_path, "a", "b", "published")
    check_output(store, [tsv], tmp_path / "b")


@pytest.mark.parametrize(("layout", "wanted"), [("compact", 465_988), ("published", 1_207_360)])
def test_bytes_of_a_row_of_video(tmp_path, layout, wanted):
    store = make_store(tmp_path, "a", "video", index_of(4), features("video", 4, AudioSpec()), spec=AudioSpec(), layout=layout)
    assert store.row_bytes == wanted
    assert layout == "published" or store.row_bytes <= 466_100
    on_disk = sum(path.stat().st_size for path in (tmp_path / "a").glob("*.memmap"))
    assert on_disk == 4 * wanted + store.shared_bytes
    assert store.shared_bytes == (0 if layout == "published" else (3 + 1) * 77 * 1024 * 2)


def conditions(store):
    rows = torch.arange(store.num_rows)
    found = store.gather(rows)
    return {name: found[name].float() for name in ("clip_features", "sync_features")} | {"text": store.text(rows).float()}


def velocity(network, latent, given):
    with torch.inference_mode():
        return network(latent, *given.values(), torch.linspace(0.1, 0.9, len(latent)))


def test_the_network_sees_the_published_rows_to_within_the_rounding_of_bfloat16(tmp_path):
    """The compact layout is the published one with conditions cast to bfloat16, and moves the velocity by that alone.

    A cast moves each number by at most 2⁻⁸ of itself, by 0.43 of that in the mean square. Moving each by all of it, with
    signs drawn, therefore moves the velocity by more; how much is a matter of the weights (here 0.0066 and 0.0159).
    """
    published = make_store(tmp_path, "published", "video", index_of(4), layout="published")
    compact = convert(tmp_path, "published", "compact", "compact")
    sizes = {"duration_s": SPEC.duration_s, "latent_mean": torch.zeros(20), "latent_std": torch.ones(20)}
    network = build_network("tiny_16k", **sizes).eval()
    for parameter in network.parameters():
        if parameter.requires_grad:  # a new network has zeros where conditions come in
            nn.init.normal_(parameter, std=0.05)
    latent, wide_conditions = published.gather(torch.arange(4))["mean"], conditions(published)
    wide, narrow = velocity(network, latent, wide_conditions), velocity(network, latent, conditions(compact))
    cast = {name: value.bfloat16().float() for name, value in wide_conditions.items()}
    assert torch.equal(narrow, velocity(network, latent, cast))
    moved = {name: value * (1 + 2.0**-8 * torch.randn_like(value).sign()) for name, value in wide_conditions.items()}
    error, bound = (float((v - wide).norm() / wide.norm()) for v in (narrow, velocity(network, latent, moved)))
    assert 0 < error < bound < 0.03, (error, bound)
