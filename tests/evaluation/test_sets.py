"""Sets to evaluate on: published tables as they are distributed, folders with a table, and their mistakes as sentences."""

import json

import numpy as np
import pytest
import torch

from mmaudio.base.errors import UserError
from mmaudio.evaluation.sampling import begin_folder
from mmaudio.evaluation.sets import captions_hash, entry_of, read_set
from mmaudio.media.audio import write_flac
from mmaudio.media.sample_marks import sample_mark
from mmaudio.metrics.feature_cache import cache_path, features_mark, write_features
from mmaudio.settings.data_sources import EvalSetSettings


def touch(folder, *names):
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"")
    return str(folder)


def test_vggsound(tmp_path):
    table = tmp_path / "vggsound.csv"
    table.write_text('---g-f_I2yQ,1,"people, marching",test\nzxpo56cpUBU,7,dog barking,test\nAbc,300,cat,train\n_no_video_1,2,x,test\n')
    videos = touch(tmp_path / "videos", "---g-f_I2yQ_000001.mp4", "zxpo56cpUBU_000007.mp4")
    found = read_set("vggsound", "VGGSound", EvalSetSettings("vggsound", csv_path=str(table), video_path=videos))
    assert found.captions == {"---g-f_I2yQ_000001": "people, marching", "zxpo56cpUBU_000007": "dog barking"}
    assert found.sounds == found.videos
    assert (found.absent, found.left_out) == (("_no_video_1_000002",), {})
    table.write_text("id,second,label,split\n")
    with pytest.raises(UserError, match=r"line 1 of .* want YouTube id, start second, label, split, and no header"):
        read_set("vggsound", "VGGSound", EvalSetSettings("vggsound", csv_path=str(table), video_path=videos))


def test_audiocaps_needs_no_sound_and_keeps_names_as_text(tmp_path):
    table = tmp_path / "data.csv"
    table.write_text("audiocap_id,name,caption\n1,00008004,a dog barks\n2,1e5,NA\n3,a.b.c,null\n")
    given = EvalSetSettings("audiocaps", csv_path=str(table), audio_path=str(tmp_path / "nowhere"))
    found = read_set("audiocaps", "AudioCaps", given)
    assert list(found.captions.items()) == [("00008004", "a dog barks"), ("1e5", "NA"), ("a.b.c", "null")]
    assert found.sounds == found.videos == {}
    sounds = touch(tmp_path / "sounds", "00008004.wav", "a.b.c.flac", "a.b.flac")
    found = found.with_sounds(tmp_path / "sounds")
    assert {name: path.name for name, path in found.sounds.items()} == {"00008004": "00008004.wav", "a.b.c": "a.b.c.flac"}
    assert list(found.first(1).captions) == ["00008004"]
    with pytest.raises(UserError, match="no folder at"):
        found.with_sounds(tmp_path / "none")
    table.write_text("name,caption\nx,1\nx,2\n")
    with pytest.raises(UserError, match=r"line 3 of .* names 'x' a second time"):
        read_set("audiocaps", "AudioCaps", EvalSetSettings("audiocaps", csv_path=str(table), audio_path=sounds))


def test_moviegen(tmp_path):
    videos, texts = touch(tmp_path / "videos", "b.mp4", "a.mp4"), tmp_path / "texts"
    texts.mkdir()
    for name in ("b", "a"):
        (texts / f"{name}.jsonl").write_text(json.dumps({"audio_prompt": f"sound of {name}", "other": 1}) + "\n")
    (texts / "c.jsonl").write_text("{}\n")
    touch(tmp_path / "videos", "d.mp4")
    found = read_set("moviegen", "MovieGen", EvalSetSettings("moviegen", jsonl_path=str(texts), video_path=videos))
    assert list(found.captions.items()) == [("a", "sound of a"), ("b", "sound of b")]
    assert "audio_prompt" in found.left_out["c"]
    assert "no d.jsonl in" in found.left_out["d"]


def test_a_table_and_its_mistakes(tmp_path):
    table = tmp_path / "birds.tsv"
    table.write_text("id\tlabel\none\tbird\n")
    found = read_set("birds", "birds", EvalSetSettings(tsv=str(table), audio_path=touch(tmp_path / "sounds", "one.flac"), gt_cache="cache"))
    assert (found.captions, found.sounds["one"].name, str(found.reference_cache)) == ({"one": "bird"}, "one.flac", "cache")
    with pytest.raises(UserError, match=r"eval_data.birds is of kind table and has no tsv; give eval_data.birds.tsv=PATH"):
        read_set("birds", "birds", EvalSetSettings())
    with pytest.raises(UserError, match="the set birds has no clip to sample; 'one': no video of it in"):
        read_set("birds", "birds", EvalSetSettings(tsv=str(table), video_path=touch(tmp_path / "videos")))


def test_published_names_are_tested_by_how_they_begin():
    entries = {name: EvalSetSettings() for name in ("AudioCaps", "AudioCaps_full", "MovieGen", "VGGSound", "birds")}
    assert entry_of("audiocaps_full-2", entries) == "AudioCaps_full"
    assert entry_of("audiocaps", entries) == "AudioCaps"
    assert entry_of("VGGSound", entries) == "VGGSound"
    assert entry_of("birds", entries) == "birds"
    assert entry_of("fish", entries) is None


def test_the_order_of_captions_does_not_matter():
    captions = {"b": "two", "a": "one"}
    assert captions_hash(captions) == captions_hash(dict(sorted(captions.items()))) != captions_hash({"a": "one"})


def test_what_was_made_for_a_set_goes_with_its_features_and_what_others_made_stays(tmp_path):
    folder = tmp_path / "set"
    begin_folder(folder, {"step": 1}, of="run/set", keeps=True)
    write_flac(folder / "a.flac", np.zeros(100), 16_000, sample_mark("run/set", id="a"))
    write_flac(folder / "b.flac", np.zeros(100), 16_000, sample_mark("run/other set", id="b"))
    path = cache_path(folder / "cache", "passt_logits")
    write_features(path.parent, "passt_logits", {"a": torch.ones(3)}, features_mark(path))
    (folder / "notes.txt").write_text("mine")
    begin_folder(folder, {"step": 1}, ["a"], of="run/set", keeps=True)
    assert {path.name for path in folder.iterdir()} == {"samples.json", "a.flac", "b.flac", "cache", "notes.txt"}
    begin_folder(folder, {"step": 2}, ["a"], of="run/set", keeps=True)
    assert {path.name for path in folder.iterdir()} == {"samples.json", "b.flac", "notes.txt"}
    with pytest.raises(UserError, match=r"b\.flac was not made by this program"):
        begin_folder(folder, {"step": 2}, ["a", "b"], of="run/set", keeps=True)
    with pytest.raises(UserError, match=r"samples\.json was not made by this program"):
        begin_folder(folder, {"step": 2}, of="other run/set", keeps=True)
