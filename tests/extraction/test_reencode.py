"""Rows encoded again from their media are those of the store; media that cannot be read are named."""

import shutil

import pytest
import torch

from mmaudio.extraction.inputs import find_audio_clips, find_videos
from mmaudio.extraction.reading import ReadingRules
from mmaudio.extraction.rows import encode_rows
from mmaudio.features import build_backend
from mmaudio.files.tables import write_table
from mmaudio.media.audio import write_flac
from mmaudio.media.synthetic import draw_bounces, render_sound
from mmaudio.store import table_path
from mmaudio.store.compare import limits_of
from mmaudio.store.row_check import check_sample
from tests.extraction.tiny_media import SPEC, store_of_videos, write_videos

RULES = ReadingRules(normalised=True)


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    return write_videos(tmp_path_factory.mktemp("media"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_rows_are_their_own_in_every_dtype(media, tmp_path, dtype):
    store = store_of_videos(media, tmp_path, dtypes=dict.fromkeys(("clip_features", "sync_features", "text"), dtype))
    backend, rows = build_backend("lite", "16k", duration_s=SPEC.duration_s), range(store.num_rows)
    inputs = find_videos(media, table_path(store.memmap_dir))
    encoded = list(encode_rows(store, rows, inputs, backend, RULES, num_workers=2))
    assert [item.row for item in encoded] == list(rows)
    assert all(set(item.features) == {"mean", "std", "clip_features", "sync_features", "text_features"} for item in encoded)
    limits = limits_of(dict.fromkeys(("clip_features", "sync_features", "text_features"), dtype))
    assert check_sample(store, encoded, rows, limits).problems == ()


def test_another_level_is_another_sound(media, tmp_path):
    store = store_of_videos(media, tmp_path)
    backend, inputs = build_backend("lite", "16k", duration_s=SPEC.duration_s), find_videos(media, table_path(store.memmap_dir))
    encoded = encode_rows(store, [0], inputs, backend, ReadingRules(normalised=False))
    (problem,) = check_sample(store, encoded, [0], limits_of({})).problems[:1]
    assert "sound (error" in problem and "picture" not in problem


def test_media_that_cannot_be_read_are_named_and_captions_compared_all_the_same(media, tmp_path):
    store = store_of_videos(media, tmp_path)
    shutil.copytree(media, tmp_path / "clips")
    (tmp_path / "clips" / f"{store.ids[1]}.mp4").write_bytes(b"")
    (tmp_path / "clips" / f"{store.ids[2]}.mp4").unlink()
    inputs = find_videos(tmp_path / "clips", table_path(store.memmap_dir))
    encoded = list(encode_rows(store, range(4), inputs, build_backend("lite", "16k", duration_s=SPEC.duration_s), RULES))
    assert "empty" in encoded[1].unreadable
    assert "no such file" in encoded[2].unreadable
    assert set(encoded[1].features) == set(encoded[2].features) == {"text_features"}
    assert not encoded[0].unreadable and not encoded[3].unreadable


def test_clips_of_recordings(tmp_path):
    for number, name in enumerate(("x", "y")):
        write_flac(tmp_path / "sounds" / f"{name}.flac", render_sound(draw_bounces(5, "sound", number, 3.0), 16_000), 16_000)
    write_table(tmp_path / "captions.tsv", ("id", "caption"), [("x", "one"), ("y", "two")])
    spans = [("x_0", "x", "0", "16896"), ("x_1", "x", "20000", "36896"), ("y_0", "y", "8000", "24896")]
    write_table(tmp_path / "clips.tsv", ("id", "name", "start_sample", "end_sample"), spans)
    inputs = find_audio_clips(tmp_path / "sounds", tmp_path / "captions.tsv", tmp_path / "clips.tsv")
    backend = build_backend("lite", "16k", duration_s=SPEC.duration_s, needs=("audio", "text"))

    class Rows:
        """What encoding needs to know of a store."""

        ids = ("y_0", "x_1", "z_0")
        captions = ("two", "one", "none")

    y_0, x_1, z_0 = encode_rows(Rows, [0, 1, 2], inputs, backend, RULES)
    assert set(y_0.features) == {"mean", "std", "text_features"}
    assert not torch.allclose(y_0.features["mean"], x_1.features["mean"], atol=0.1)
    assert z_0.unreadable == "no table lists this id"
