"""`mmaudio store`: what it tells of stores that are whole, shifted, exchanged or torn, and the other layout."""

import json
import shutil

import numpy as np
import pytest
import torch

from mmaudio.extraction.inputs import find_audio_clips
from mmaudio.extraction.reading import ReadingRules, encode_media, file_reader
from mmaudio.features import build_backend
from mmaudio.files.tables import read_table, write_table
from mmaudio.media.audio import write_flac
from mmaudio.media.synthetic import draw_bounces, render_sound
from mmaudio.store import Block, Store, record_path, table_path, write_store
from mmaudio.store.format import hash_rows
from tests.extraction.tiny_media import CAPTIONS, SPEC, store_of_videos, write_videos

IDS = list(CAPTIONS)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Videos, their source table, and their stores in both layouts."""
    folder = tmp_path_factory.mktemp("world")
    write_videos(folder / "videos")
    write_table(folder / "source.tsv", ("id", "label"), CAPTIONS.items())
    for layout in ("compact", "published"):
        store_of_videos(folder / "videos", folder / layout, layout=layout)
    return folder


@pytest.fixture(params=["compact", "published"])
def folder(request, world, tmp_path):
    """A copy of a store that may be damaged."""
    shutil.copytree(world / request.param, tmp_path / "stores")
    return tmp_path / "stores" / "s"


def sampled(run_command, world, folder, *more):
    words = ("--sample", 10, "--data_dir", world / "videos", "--device", "cpu")
    return run_command("store", "verify", folder, *words, *more)


def rewrite_table(folder, rows, rehash=True):
    """Another table, with a record that says it is the right one, as the version before wrote it."""
    write_table(table_path(folder), ("id", "label"), rows)
    record = json.loads(record_path(folder).read_text())
    record.pop("mark", None)
    if rehash:
        record["rows_hash"] = hash_rows([row_id for row_id, _ in rows], [label for _, label in rows])
    record_path(folder).write_text(json.dumps(record))


def exchange(folder, column, one, other):
    shape = json.loads((folder / "meta.json").read_text())[column]
    rows = np.memmap(folder / f"{column}.memmap", {"torch.float32": "<f4"}.get(shape["dtype"], "<u2"), "r+", shape=tuple(shape["shape"]))
    rows[[one, other]] = rows[[other, one]]


def test_a_whole_store(run_command, world, folder):
    ended = run_command("store", "verify", folder)
    assert ended.code == 0, ended.err
    assert ended.out.splitlines()[-1] == "no problems"
    assert ended.out.count("holds  ") == 9
    ended = sampled(run_command, world, folder, "--source_tsv", world / "source.tsv")
    assert ended.code == 0, ended.out
    assert "holds  sample: sound, picture and synchronisation of 6 rows are those of their media" in ended.out
    assert "holds  words: captions of 6 rows are those of" in ended.out


@pytest.mark.parametrize("by", [1, -1])
def test_a_table_shifted_by_one_row(run_command, world, folder, by):
    rows = list(CAPTIONS.items())
    rewrite_table(folder, [rows[(row + by) % 6] for row in range(6)])
    ended = sampled(run_command, world, folder)
    assert ended.code == 3
    *_, shifted, count = ended.out.splitlines()
    assert "WRONG  sample: the table seems shifted by one row" in shifted
    assert count.endswith(" problems")
    assert f"row 2 (id {IDS[2 + by]!r}): caption" in ended.out
    assert f"which are in row {2 + by} (id {IDS[2 + 2 * by]!r})" in ended.out


def test_a_shifted_table_without_a_record_to_tell(run_command, world, tmp_path):
    shutil.copytree(world / "published", tmp_path / "stores")
    folder = tmp_path / "stores" / "s"
    rows = list(CAPTIONS.items())
    rewrite_table(folder, [*rows[1:], rows[0]])
    record_path(folder).unlink()
    ended = sampled(run_command, world, folder)
    assert ended.code == 2
    assert "has no record of the backend that made it; say which: --backend" in ended.err
    ended = sampled(run_command, world, folder, "--backend", "lite")
    assert ended.code == 3
    assert "the table seems shifted by one row" in ended.out


def test_sound_of_two_rows_exchanged(run_command, world, folder):
    for column in ("mean", "std"):
        exchange(folder, column, 1, 4)
    assert run_command("store", "verify", folder).code == 0, "nothing in the store itself tells"
    ended = sampled(run_command, world, folder)
    assert ended.code == 3
    assert "row 1 (id '1e5'): sound (error " in ended.out and "is not its own, which is in row 4 (id 'NA')" in ended.out
    assert "row 4 (id 'NA'): sound" in ended.out and "picture (" not in ended.out
    assert "shifted" not in ended.out


def test_captions_exchanged_in_table_and_text_alike(run_command, world, folder):
    rows = list(CAPTIONS.items())
    rows[1], rows[3] = (rows[1][0], rows[3][1]), (rows[3][0], rows[1][1])
    rewrite_table(folder, rows)
    if (folder / "text_row.memmap").exists():
        places = np.memmap(folder / "text_row.memmap", "<i4", "r+")
        places[[1, 3]] = places[[3, 1]]
    else:
        exchange(folder, "text_features", 1, 3)
    assert sampled(run_command, world, folder).code == 0, "only the source can tell"
    ended = sampled(run_command, world, folder, "--source_tsv", world / "source.tsv")
    assert ended.code == 3
    assert "WRONG  words: row 1 (id '1e5') has the caption 'a ball' and " in ended.out
    assert "says 'None'" in ended.out
    assert ended.out.splitlines()[-1] == "2 problems"


def test_captions_exchanged_in_the_table_alone(run_command, world, folder):
    rows = list(CAPTIONS.items())
    rows[1], rows[3] = (rows[1][0], rows[3][1]), (rows[3][0], rows[1][1])
    rewrite_table(folder, rows, rehash=False)
    ended = sampled(run_command, world, folder)
    assert ended.code == 3
    assert "WRONG  rows: the ids or captions of" in ended.out
    assert "row 1 (id '1e5'): caption (error " in ended.out and "which is in row 3 (id 'é🎈')" in ended.out


def test_torn_and_damaged_columns(run_command, world, folder):
    column = np.memmap(folder / "mean.memmap", "<f4", "r+", shape=(6, 32, 20))
    column[4, 0, 0] = np.nan
    column.flush()
    ended = run_command("store", "verify", folder)
    assert ended.code == 3
    assert "WRONG  numbers: mean holds numbers that are not finite in row 4 (id 'NA')" in ended.out
    assert ended.out.splitlines()[-1] == "1 problem"
    with open(folder / "mean.memmap", "r+b") as file:
        file.truncate(99)
    ended = sampled(run_command, world, folder)
    assert ended.code == 3
    assert "mean.memmap has 99 bytes" in ended.out


def test_rows_of_zeros_are_told(run_command, folder):
    for name, rows, shape in (("std", [2], (6, 32, 20)), ("sync_features", [2, 3, 4, 5], (6, 16, 768))):
        dtype = "<u2" if (folder / "text_row.memmap").exists() and name != "std" else "<f4"
        column = np.memmap(folder / f"{name}.memmap", dtype, "r+", shape=shape)
        column[rows] = 0
        column.flush()
    ended = run_command("store", "verify", folder, "--json")
    told = json.loads(ended.out)
    assert (ended.code, told["num_problems"]) == (3, 2)
    (wrong,) = [check for check in told["checks"] if not check["holds"]]
    assert "std holds zeros where no encoder gives them, in 1 row: row 2 (id 'None')" in wrong["problems"]
    assert "in 4 rows: row 2 (id 'None'), row 3 (id 'é🎈'), row 4 (id 'NA') and 1 more" in wrong["problems"][1]
    assert wrong["rows"][0] == {"row": 2, "id": "None", "zeros": ["std", "sync_features"]}
    assert [row["row"] for row in wrong["rows"]] == [2, 3, 4, 5]


def test_the_end_of_a_row_and_a_text_that_are_zeros_are_told(run_command, folder):
    is_compact = (folder / "text_row.memmap").exists()
    name, rows = ("text_table", 5) if is_compact else ("text_features", 6)
    text = np.memmap(folder / f"{name}.memmap", "<u2" if is_compact else "<f4", "r+", shape=(rows, 77, 1024))
    text[1, 40:] = 0
    text.flush()
    ended = run_command("store", "verify", folder)
    assert (ended.code, ended.out.count("WRONG")) == (3, 2 if not is_compact and "captions" in ended.out.split("WRONG")[1] else 1)
    assert f"WRONG  numbers: {name} holds zeros where no encoder gives them, in 1 row: row 1 (id '1e5')" in ended.out


def test_a_null_text_of_zeros_is_told(run_command, folder):
    if (folder / "null_text.memmap").exists():
        (folder / "null_text.memmap").write_bytes(bytes(77 * 1024 * 2))
    else:
        torch.save(torch.zeros(1, 77, 1024), folder.with_name("s.empty_string.pth"))
    ended = run_command("store", "verify", folder)
    assert (ended.code, ended.out.count("WRONG")) == (3, 1)
    assert "WRONG  null text: the null text holds zeros where no encoder gives them" in ended.out


def test_a_null_text_of_an_encoder_that_is_not_here_is_unchecked_or_compared_with_the_published_one(
    run_command, folder, tmp_path, monkeypatch
):
    record = json.loads(record_path(folder).read_text())
    record_path(folder).write_text(json.dumps(record | {"backend": "pretrained"}))
    monkeypatch.chdir(tmp_path)
    ended = run_command("store", "verify", folder)
    assert (ended.code, "holds  null text: the null text is there and finite, and unchecked" in ended.out) == (0, True)
    (tmp_path / "ext_weights").mkdir()
    torch.save(Store.open(table_path(folder), folder).null_text()[None].float(), tmp_path / "ext_weights" / "empty_string.pth")
    ended = run_command("store", "verify", folder)
    assert (
        "holds  null text: the null text is what the published encoder (ext_weights/empty_string.pth) makes of the empty string"
        in ended.out
    )
    torch.save(torch.randn(1, 77, 1024), tmp_path / "ext_weights" / "empty_string.pth")
    ended = run_command("store", "verify", folder)
    assert (ended.code, "the null text is not what the published encoder (ext_weights/empty_string.pth) makes" in ended.out) == (3, True)


@pytest.mark.parametrize("frames", ["black", "of middle luminance"])
@pytest.mark.parametrize("layout", ["compact", "published"])
def test_frames_without_light_or_contrast_and_silence_are_no_holes(run_command, tmp_path, frames, layout):
    """Of a uniform picture of one of 68 colours, the lite encoder of motion makes zeros."""
    colour = torch.tensor((0, 0, 0) if frames == "black" else (120, 132, 124), dtype=torch.uint8)[:, None, None]
    backend, index = build_backend("lite", "16k", duration_s=1.0), [("a", "x"), ("b", "y")]
    spec = backend.spec
    columns = dict(zip(("mean", "std"), backend.encode_audio(torch.zeros(1, spec.num_samples)), strict=True))
    columns["clip_features"] = backend.encode_clip(colour.expand(1, spec.num_clip_frames, 3, 384, 384))
    columns["sync_features"] = backend.encode_sync(colour.expand(1, spec.num_sync_frames, 3, 224, 224))
    assert bool((columns["sync_features"] == 0).all()) == (frames != "black")
    blocks = [Block([row_id], [caption], columns, {caption: backend.encode_text([caption])[0]}) for row_id, caption in index]
    write_store(
        tmp_path,
        "s",
        kind="video",
        spec=spec,
        backend="lite",
        layout=layout,
        index=index,
        blocks=blocks,
        null_text=backend.encode_text([""])[0],
    )
    ended = run_command("store", "verify", tmp_path / "s")
    assert ended.code == 0, ended.out
    clip = np.memmap(tmp_path / "s" / "clip_features.memmap", np.uint8, "r+")
    clip[:] = 0
    clip.flush()
    ended = run_command("store", "verify", tmp_path / "s")
    assert ended.out.count("WRONG") == (2 if frames != "black" else 1)


def test_media_that_cannot_be_read_are_counted(run_command, world, folder, tmp_path):
    shutil.copytree(world / "videos", tmp_path / "videos")
    (tmp_path / "videos" / "None.mp4").unlink()
    ended = run_command("store", "verify", folder, "--sample", 6, "--data_dir", tmp_path / "videos", "--device", "cpu", "--json")
    assert ended.code == 3
    told = json.loads(ended.out)
    assert told["num_problems"] == 1
    (wrong,) = [check for check in told["checks"] if not check["holds"]]
    assert wrong["name"] == "sample" and "row 2 (id 'None'): its media cannot be read" in wrong["problems"][0]


def test_other_weights_than_the_records_are_told(run_command, world, folder):
    record = json.loads(record_path(folder).read_text())
    record_path(folder).write_text(json.dumps(record | {"backend": "pretrained", "weights": {"clip": "0" * 8}}))
    ended = sampled(run_command, world, folder, "--backend", "lite")
    assert ended.code == 2
    assert "was made by the pretrained backend and not by lite" in ended.err


def test_verify_tells_mistakes_at_once(run_command, world, folder, tmp_path):
    ended = run_command("store", "verify", folder, "--source_tsv", "x.tsv", "--seeds", 3)
    assert ended.code == 2
    assert "--source_tsv: only for comparing rows with their media; add --sample N" in ended.err
    assert "unknown option --seeds (did you mean '--seed'?)" in ended.err
    ended = run_command("store", "verify", folder, "--sample", 0)
    assert (ended.code, ended.err.count("error: ")) == (2, 2)
    ended = sampled(run_command, world, folder, "--clips_tsv", "x.tsv", "--backend", "lit", "--dtype", "bf16")
    assert ended.code == 2
    assert "--clips_tsv is not for a store of kind video" in ended.err
    assert "--backend: no 'lit' (did you mean 'lite'?)" in ended.err
    ended = run_command("store", "verify", tmp_path / "none")
    assert ended.code == 2
    assert "no store at" in ended.err


def test_info(run_command, folder):
    told = json.loads(run_command("store", "info", folder).out)
    assert (told["rows"], told["latents"], told["clip_tokens"], told["distinct_captions"]) == (6, [32, 20], 8, 5)
    compact = told["layout"] == "compact"
    features = 8 * 1024 + 16 * 768
    assert told["bytes_a_row"] == 2 * 32 * 20 * 4 + (2 * features + 4 if compact else 4 * (features + 77 * 1024))
    assert told["bytes_of_shared_captions"] == (6 * 77 * 1024 * 2 if compact else 0)
    assert told["dtypes"]["clip_features"] == ("bfloat16" if compact else "float32")
    assert told["record"]["backend"] == "lite"


def test_convert_there_and_back(run_command, world, tmp_path):
    ended = run_command("store", "convert", world / "compact" / "s", tmp_path / "b", "--layout", "published")
    assert ended.code == 0, ended.err
    assert ended.out.splitlines()[-1].startswith(f"{tmp_path / 'b'}: 6 rows, published layout, 402,432 bytes a row")
    ended = run_command("store", "convert", tmp_path / "b", tmp_path / "c", "--layout", "compact")
    assert ended.code == 0, ended.err
    for path in (world / "compact" / "s").glob("*.memmap"):
        assert (tmp_path / "c" / path.name).read_bytes() == path.read_bytes(), path.name
    assert record_path(tmp_path / "c").read_bytes() == record_path(world / "compact" / "s").read_bytes()
    assert run_command("store", "verify", tmp_path / "c").code == 0


def test_convert_replaces_the_same_rows_and_no_others(run_command, world, tmp_path):
    source, other = world / "compact" / "s", tmp_path / "b"
    words = ("store", "convert", source, other, "--layout", "published")
    assert run_command(*words).code == 0
    assert run_command("store", "convert", source, other, "--layout", "compact", "--dtype", "clip_features=fp16").code == 0
    rewrite_table(other, [(row_id, f"{caption}, loud") for row_id, caption in CAPTIONS.items()])
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    ended = run_command(*words)
    assert (ended.code, ended.err.count("error: ")) == (2, 1)
    assert f"store {other} would be replaced by another one: 6 of its 6 rows" in ended.err
    assert f"among those of store {source}; name another output, or have it moved aside: --replace" in ended.err
    rewrite_table(other, list(CAPTIONS.items()))
    record = json.loads(record_path(other).read_text())
    for changed, said in (
        ({"backend": "pretrained"}, "backend is 'pretrained' there and 'lite' here"),
        ({"duration_s": 8.0}, "is 8.0"),
    ):
        record_path(other).write_text(json.dumps(record | changed))
        assert said in run_command(*words).err
    record_path(other).unlink()
    assert run_command(*words).err.count("was not made by this program") == 2
    for path, data in before.items():
        assert path == record_path(other) or path == table_path(other) or path.read_bytes() == data
    assert run_command(*words, "--replace").code == 0
    assert run_command("store", "verify", other).code == 0


def test_convert_to_a_place_that_cannot_be_written(run_command, world, tmp_path):
    (tmp_path / "file").write_text("precious")
    ended = run_command("store", "convert", world / "compact" / "s", tmp_path / "file" / "b", "--layout", "published")
    assert (ended.code, "is a file where a folder has to be" in ended.err) == (2, True)


def test_a_null_text_that_is_not_the_encoders(run_command, world, folder):
    ended = sampled(run_command, world, folder)
    assert "holds  empty string: the null text is what the encoder makes of the empty string" in ended.out
    if (folder / "null_text.memmap").exists():
        table, null_text = (np.memmap(folder / f"{name}.memmap", "<u2", "r+") for name in ("text_table", "null_text"))
        null_text[:] = table[: len(null_text)]
        null_text.flush()
    else:
        torch.save(Store.open(table_path(folder), folder).text(torch.tensor([0])), folder.with_name("s.empty_string.pth"))
    ended = run_command("store", "verify", folder)
    assert (ended.code, ended.out.count("WRONG")) == (3, 1)
    assert "WRONG  null text: the null text is not what the lite encoder makes of the empty string (error " in ended.out
    ended = sampled(run_command, world, folder)
    assert (ended.code, ended.out.count("WRONG")) == (3, 1)
    assert "WRONG  empty string: the null text is not what the encoder makes of the empty string (error " in ended.out


def test_normalising_that_the_record_denies_is_refused(run_command, world, folder):
    ended = sampled(run_command, world, folder, "--normalize_audio", "false")
    assert (ended.code, "--normalize_audio is false and the record of store" in ended.err) == (2, True)
    assert sampled(run_command, world, folder, "--normalize_audio", "true").code == 0


def test_convert_what_the_published_system_wrote(run_command, world, tmp_path):
    shutil.copytree(world / "published", tmp_path / "stores")
    folder = tmp_path / "stores" / "s"
    record_path(folder).unlink()
    null_file = (tmp_path / "stores" / "s.empty_string.pth").rename(tmp_path / "empty_string.pth")
    words = ("store", "convert", folder, tmp_path / "new", "--layout", "compact", "--dtype", "clip_features=fp16")
    ended = run_command(*words)
    assert ended.code == 2
    assert "say which: --backend" in ended.err
    ended = run_command(*words, "--backend", "pretrained")
    assert ended.code == 2
    assert "no text feature of the empty string" in ended.err and "--null_text FILE" in ended.err
    assert not (tmp_path / "new").exists()
    ended = run_command(*words, "--backend", "lite")
    assert ended.code == 0, ended.err
    store = Store.open(tmp_path / "new.tsv", tmp_path / "new")
    assert (store.record.backend, store.record.duration_s, store.record.mode) == ("lite", 1.0, "16k")
    assert store.column_dtypes["clip_features"] == torch.float16
    ended = run_command(*words, "--backend", "pretrained", "--null_text", null_file)
    assert ended.code == 0, ended.err
    again = Store.open(tmp_path / "new.tsv", tmp_path / "new")
    assert again.record.backend == "pretrained"
    assert torch.equal(again.null_text(), store.null_text())


def test_convert_tells_mistakes_at_once(run_command, world, tmp_path):
    source = world / "compact" / "s"
    before = {path: path.stat().st_mtime_ns for path in world.rglob("*")}
    ended = run_command("store", "convert", source, source, "--layout", "published", "--dtype", "clip_feature=bf16", "--backend", "lit")
    assert ended.code == 2
    assert "no column 'clip_feature' (did you mean 'clip_features'?)" in ended.err
    assert "--dtype is for the compact layout" in ended.err
    assert "--backend: no 'lit'" in ended.err
    ended = run_command("store", "convert", source, source, "--layout", "published", "--duration", 3)
    assert ended.code == 2
    assert "is the store itself" in ended.err and "--duration is 3" in ended.err
    ended = run_command("store", "convert", tmp_path / "none", tmp_path / "b", "--layout", "flat")
    assert "no store at" in ended.err and "--layout: no 'flat'" in ended.err
    assert {path: path.stat().st_mtime_ns for path in world.rglob("*")} == before
    assert read_table(table_path(source)).column("id") == IDS


@pytest.mark.parametrize("action", ["info", "verify", "convert"])
def test_help_shows_an_example(run_command, action):
    ended = run_command("store", action, "--help")
    assert ended.code == 0
    assert f"example:\n  mmaudio store {action} " in ended.out
    assert f"  {action}" in run_command("store", "--help").out


def test_texts_beyond_the_table_are_told_and_the_rest_is_compared(run_command, world, tmp_path):
    shutil.copytree(world / "compact", tmp_path / "stores")
    folder = tmp_path / "stores" / "s"
    np.memmap(folder / "text_row.memmap", "<i4", "r+")[2] = 99
    ended = sampled(run_command, world, folder)
    assert ended.code == 3
    assert "WRONG  captions: store" in ended.out and "beyond its 5" in ended.out
    assert "holds  sample: sound, picture and synchronisation of 6 rows" in ended.out


def test_clips_of_recordings(run_command, tmp_path):
    """An audio store, a caption of whose source was mended since, and whose rows were cut from other places."""
    for number, name in enumerate(("x", "y")):
        write_flac(tmp_path / "sounds" / f"{name}.flac", render_sound(draw_bounces(5, "sound", number, 4.0), 16_000), 16_000)
    write_table(tmp_path / "captions.tsv", ("id", "caption"), [("x", "one"), ("y", "two")])
    spans = [(f"{name}_{number}", name, str(start), str(start + 16_896)) for name in "xy" for number, start in enumerate((0, 20_000))]
    write_table(tmp_path / "clips.tsv", ("id", "name", "start_sample", "end_sample"), spans)
    tables = ("--captions_tsv", tmp_path / "captions.tsv", "--clips_tsv", tmp_path / "clips.tsv")
    inputs = find_audio_clips(tmp_path / "sounds", tmp_path / "captions.tsv", tmp_path / "clips.tsv")
    backend = build_backend("lite", "16k", duration_s=1.0)
    read = file_reader(inputs, SPEC, ReadingRules(normalised=True))
    rows = [encode_media(backend, read([number]))[0] for number in range(4)]
    index = [(item.id, item.caption) for item in inputs.items]
    texts = {caption: backend.encode_text([caption])[0] for _, caption in index}
    columns = {name: torch.stack([row[name] for row in rows]) for name in ("mean", "std")}
    block = Block([row_id for row_id, _ in index], [caption for _, caption in index], columns, texts)
    null_text = backend.encode_text([""])[0]
    write_store(
        *(tmp_path, "s"), kind="audio", layout="compact", spec=SPEC, backend="lite", index=index, blocks=[block], null_text=null_text
    )
    words = ("store", "verify", tmp_path / "s", "--sample", 4, "--data_dir", tmp_path / "sounds", "--device", "cpu")
    ended = run_command(*words, *tables)
    assert ended.code == 0, ended.out
    assert "holds  sample: sound of 4 rows" in ended.out and "holds  words: captions of 4 rows" in ended.out
    write_table(tmp_path / "captions.tsv", ("id", "caption"), [("x", "one"), ("y", "mended")])
    write_table(tmp_path / "clips.tsv", ("id", "name", "start_sample", "end_sample"), [*spans[:3], ("y_1", "y", "0", "16896")])
    ended = run_command(*words, *tables)
    assert ended.code == 3
    assert "row 3 (id 'y_1'): sound (error " in ended.out and "which is in row 2 (id 'y_0')" in ended.out
    assert "row 2 (id 'y_0') has the caption 'two' and" in ended.out and "says 'mended'" in ended.out
    ended = run_command(*words, "--source_tsv", tmp_path / "captions.tsv")
    assert ended.code == 2
    assert ended.err.count("error: ") == 3
    assert "clips of recordings; say which: --captions_tsv TABLE" in ended.err
