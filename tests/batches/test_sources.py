"""Stores that do not fit a model or each other are refused in sentences that name both and the way out."""

import json

from mmaudio.base.errors import Problems
from mmaudio.base.specs import AudioSpec
from mmaudio.batches import Source, check_batch_size, check_stores_fit
from mmaudio.store import record_path
from tests.store.examples import SPEC, forget_record, make_store, open_store


def said(sources, spec=SPEC, backend=None, model="tiny_16k"):
    problems = Problems()
    check_stores_fit(problems, sources, spec, model=model, backend=backend)
    return problems.sentences


def source(folder, name, kind="video", repeat=1, **options):
    return Source(name, options.pop("as_kind", kind), make_store(folder, name, kind, **options), repeat)


def test_what_fits_is_silent(tmp_path):
    assert said([source(tmp_path, "v"), source(tmp_path, "a", "audio", layout="published")], backend="lite") == []


def test_another_mode(tmp_path):
    one = source(tmp_path, "Example_video", spec=AudioSpec("44k", 0.64))
    (sentence,) = said([one], AudioSpec("16k", 0.64), model="small_16k")
    assert sentence == (
        f"store Example_video ({tmp_path / 'Example_video'}) holds 44k latents (28 x 40, 0.64 s) but model small_16k wants 20 x 20:"
        " extract it again with --mode 16k or choose a 44k model"
    )


def test_another_duration(tmp_path):
    (sentence,) = said([source(tmp_path, "v")], AudioSpec("16k", 1.0))
    assert "holds 16k latents (20 x 20, 0.64 s) but model tiny_16k wants 32 x 20 (1.0 s)" in sentence
    assert "--duration 1.0" in sentence


def test_lengths_of_video_streams_where_latents_agree(tmp_path):
    one = source(tmp_path, "v", spec=AudioSpec("16k", 0.87))
    other = AudioSpec("16k", 0.88)
    assert one.store.num_latents == other.num_latents
    (sentence,) = said([one], other)
    assert "clip_features of 6 x 1024 but model tiny_16k wants 7 x 1024" in sentence


def test_backend(tmp_path):
    lite, published = source(tmp_path, "lite"), source(tmp_path, "theirs", layout="published")
    forget_record(tmp_path, "theirs")
    published = Source("theirs", "video", open_store(tmp_path, "theirs"))
    (sentence,) = said([lite, published], backend="pretrained")
    assert "store lite" in sentence
    assert "made by backend lite but this run uses pretrained" in sentence
    (sentence,) = said([lite, published], backend="lite")
    assert "store theirs" in sentence
    (sentence,) = said([lite, published])
    assert "store lite" in sentence
    assert "store theirs" in sentence
    assert "do not belong together" in sentence


def test_weights(tmp_path):
    made = {name: {"text": "1", "clip": "2"} for name in ("a", "b")}
    made["c"] = {"text": "9"}
    (sentence,) = said([source(tmp_path, name, weights=weights) for name, weights in made.items()])
    assert "store a" in sentence
    assert "store c" in sentence
    assert "weights of text 1" in sentence


def test_kind_and_repeat(tmp_path):
    sentences = said([source(tmp_path, "v", "audio", as_kind="video", repeat=0)])
    assert len(sentences) == 2
    assert "configured as kind video and holds kind audio" in sentences[0]
    assert "repeat 0" in sentences[1]


def test_all_at_once(tmp_path):
    wrong = source(tmp_path, "wrong", spec=AudioSpec("44k", 0.64), backend="pretrained")
    assert len(said([source(tmp_path, "right"), wrong], backend="lite")) == 2


def test_a_mode_no_one_knows_is_told_by_its_shape(tmp_path):
    one = source(tmp_path, "v")
    content = json.loads(record_path(tmp_path / "v").read_text())
    record_path(tmp_path / "v").write_text(json.dumps(content | {"mode": "8k"}))
    (sentence,) = said([Source("v", "video", open_store(tmp_path, "v"))])
    assert "holds 8k latents" in sentence
    assert one.store.num_latents == 20


def test_batch_size(tmp_path):
    sources = [source(tmp_path, "v", repeat=2), source(tmp_path, "a", "audio")]
    for batch_size, world_size, count in ((15, 1, 0), (14, 2, 0), (16, 1, 1), (3, 2, 1), (17, 2, 2), (0, 1, 1)):
        problems = Problems()
        check_batch_size(problems, sources, batch_size, world_size)
        assert len(problems.sentences) == count, batch_size
    problems = Problems()
    check_batch_size(problems, sources, 512)
    assert problems.sentences == ["batch_size is 512 and the stores hold 15 rows (v 5 x 2, a 5 x 1); want at most 15, or more data"]
