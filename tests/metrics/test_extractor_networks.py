"""The networks of extractors on weights of the published layouts, through `weights`, from files to cache files."""

import json

import numpy as np
import pytest
import soundfile
import torch
import torch.nn.functional as F

from mmaudio.base.errors import UserError
from mmaudio.files.tensor_files import shapes_of
from mmaudio.metrics.extractors import passt
from mmaudio.metrics.extractors.cache_features import extract_features
from mmaudio.metrics.extractors.clap import (
    AUDIO,
    TEXT,
    UNUSED,
    ClapSound,
    hollow,
    load_branch,
    published_shapes,
    read_published,
    read_tokenizer,
)
from mmaudio.metrics.feature_cache import read_features
from tests.encoders.sharp import manifest
from tests.golden.fill import GOLDEN
from tests.media.made_videos import make_video
from tests.metrics.extractor_files import clap_state, sound, write_clap, write_state, write_tokenizer

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return tmp_path_factory.mktemp("weights")


@pytest.fixture(scope="module")
def clap_file(weights):
    return write_clap(weights / "clap.pt")


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN / "clap_laion.npz")


def test_the_published_layout_of_clap_is_known_to_the_last_tensor():
    published = {name: tuple(shape) for name, shape in json.loads((GOLDEN / "clap_laion.json").read_text()).items()}
    wanted = published_shapes(hollow(AUDIO)) | published_shapes(hollow(TEXT))
    assert {name: published[name] for name in wanted} == wanted
    assert all(UNUSED.match(name) for name in published.keys() - wanted.keys())
    assert not any(UNUSED.match(name) for name in wanted)


@torch.no_grad()
def test_golden_captions(golden):
    network = load_branch(clap_state(), TEXT)
    tokens = torch.from_numpy(golden["tokens"]).long()
    embeddings = network(input_ids=tokens, attention_mask=(tokens != 1).long()).text_embeds
    assert np.abs(F.normalize(embeddings, dim=-1).numpy() - golden["captions"]).max() < 1e-6


@torch.no_grad()
def test_golden_sounds(golden):
    extractor = ClapSound(load_branch(clap_state(), AUDIO), CPU)
    got = extractor([sound("clap a", 384_000), sound("clap b", 480_000)])["clap_laion_audio"]
    assert np.abs(got.numpy() - golden["sounds"]).max() < 1e-6


@pytest.mark.parametrize("branch", [AUDIO, TEXT])
@pytest.mark.parametrize("damage", ["missing", "misshapen", "extra"])
def test_clap_weights_that_do_not_fit_are_refused_by_name(branch, damage):
    state = clap_state()
    name = "audio_branch.layers.2.blocks.7.attn.qkv.weight" if branch == AUDIO else "text_branch.encoder.layer.3.output.dense.bias"
    if damage == "extra":
        name = f"{branch}_branch.of_another_model"
        state[name] = torch.zeros(1)
    else:
        state = {each: tensor for each, tensor in state.items() if damage != "missing" or each != name}
    if damage == "misshapen":
        state[name] = state[name][:-1]
    with pytest.raises(UserError, match=name.replace(".", r"\.")):
        load_branch(state, branch)


def test_a_training_checkpoint_is_read_for_its_weights_alone(clap_file):
    assert clap_file.stat().st_size < 100e6
    state = read_published(clap_file)
    assert set(clap_state()) | {"text_branch.embeddings.position_ids"} == set(state)


def test_a_checkpoint_that_holds_more_than_data(tmp_path):
    torch.save({"state_dict": {"a": torch.zeros(1)}, "args": pytest.raises}, tmp_path / "clap.pt")
    with pytest.raises(UserError, match="no readable weights file"):
        read_published(tmp_path / "clap.pt")


def test_tokens_of_captions(weights):
    tokenizer = read_tokenizer(write_tokenizer(weights / "roberta"))
    rows = [tokenizer(text)["input_ids"] for text in ("dog dog", "é", "")]
    words = json.loads((weights / "roberta" / "vocab.json").read_text())
    assert rows == [[0, words["dog"], words["Ġdog"], 2], [0, words["Ã"], words["©"], 2], [0, 2]]
    (weights / "other").mkdir()
    (weights / "other" / "vocab.json").write_text('{"a": 0}')
    (weights / "other" / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(UserError, match="no tokenizer of RoBERTa with 50265 tokens"):
        read_tokenizer(weights / "other")


def test_captions_end_to_end(weights, clap_file, tmp_path):
    if not (weights / "tokens").exists():
        write_tokenizer(weights / "tokens")
    places = {"clap_laion": clap_file, "roberta_tokenizer": weights / "tokens"}
    captions = {"1": "dog", "2": "dog", "3": "a dog " * 200, "4": ""}
    assert extract_features(["clap_laion_text"], captions, tmp_path, device=CPU, places=places) == {}
    rows = read_features(tmp_path, "clap_laion_text")
    assert {tuple(row.shape) for row in rows.values()} == {(512,)}
    assert all(abs(float(row.norm()) - 1) < 1e-5 for row in rows.values())
    assert torch.equal(rows["1"], rows["2"]) and not torch.allclose(rows["1"], rows["3"], atol=1e-3)


@pytest.fixture(scope="module")
def passt_file(weights):
    return write_state(weights / "passt.pt", shapes_of(passt.build_passt()))


def test_passt_is_built_in_silence_and_leaves_no_trace(capfd, passt_file):
    before = torch.get_rng_state()
    network = passt.build_passt()
    assert torch.equal(torch.get_rng_state(), before) and capfd.readouterr() == ("", "")
    assert len(shapes_of(network)) == 159 and sum(tensor.numel() for tensor in network.parameters()) == 86_153_758
    state = torch.load(passt_file, weights_only=True)
    del state["blocks.3.attn.qkv.weight"]
    with pytest.raises(UserError, match=r"these weights are not of PaSST: blocks\.3\.attn\.qkv\.weight is missing"):
        passt.Passt(state, CPU)


def write_sounds(folder):
    """One that is whole at another rate and in stereo, one that is short, one that is silent, and one that is no sound."""
    folder.mkdir()
    waves = {
        "whole": (sound("a", 2 * 441_000).reshape(-1, 2), 44_100),
        "short": (sound("b", 16_000), 16_000),
        "silent": (torch.zeros(128_000), 16_000),
    }
    for name, (wave, rate_hz) in waves.items():
        soundfile.write(folder / f"{name}.flac", wave.numpy(), rate_hz)
    (folder / "bad.flac").write_bytes(b"no sound, but longer than a header")
    return {path.stem: path for path in sorted(folder.iterdir())}


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
def test_sounds_end_to_end(weights, passt_file, clap_file, tmp_path, capfd):
    items = write_sounds(tmp_path / "sounds")
    sync_file = write_state(weights / "sync.pth", manifest("synchformer_audio") | manifest("synchformer_visual"))
    places = {"passt": passt_file, "clap_laion": clap_file, "synchformer": sync_file}
    stems = {"passt_logits": (527,), "passt_features_embed": (768,), "clap_laion_audio": (512,), "synchformer_audio": (24, 6, 768)}
    before = torch.get_rng_state()
    failures = extract_features(stems, items, tmp_path / "cache", device=CPU, places=places)
    assert torch.equal(torch.get_rng_state(), before) and capfd.readouterr().out == ""
    assert failures.keys() == {"bad", "short"} and failures["short"] == "too short: 1.00 s of sound, want 8 s"
    for stem, shape in stems.items():
        rows = read_features(tmp_path / "cache", stem)
        assert rows.keys() == ({"whole", "silent"} if stem == "synchformer_audio" else {"whole", "short", "silent"})
        assert all(tuple(row.shape) == shape for row in rows.values())
        assert not torch.allclose(rows["whole"], rows["silent"], atol=1e-4)
    features, logits = (read_features(tmp_path / "cache", f"passt_{kind}")["whole"] for kind in ("features_embed", "logits"))
    state = torch.load(passt_file, weights_only=True)
    normed = F.layer_norm(features, (768,), state["head.0.weight"], state["head.0.bias"])
    assert torch.allclose(F.linear(normed, state["head.1.weight"], state["head.1.bias"]), logits, atol=1e-4)


@pytest.mark.slow
def test_videos_end_to_end(weights, tmp_path):
    items = {"video": make_video(tmp_path / "a.mp4", 1.6), "short": make_video(tmp_path / "b.mp4", 0.8), "sound": tmp_path / "c.flac"}
    soundfile.write(items["sound"], np.zeros(16_000), 16_000)
    places = {"synchformer": write_state(weights / "sync_video.pth", manifest("synchformer_visual"))}
    failures = extract_features(["synchformer_video"], items, tmp_path / "cache", duration_s=1.3, device=CPU, places=places)
    assert failures.keys() == {"short", "sound"} and "too short" in failures["short"]
    assert read_features(tmp_path / "cache", "synchformer_video")["video"].shape == (3, 8, 768)
