"""Synchformer's audio branch against numbers of the published system, and what its segments may know of each other."""

import numpy as np
import pytest
import torch

from mmaudio.base.errors import UserError
from mmaudio.encoders import load_synchformer_audio
from mmaudio.encoders.synchformer_audio import SegmentSpectrogram, SynchformerAudio
from tests.encoders.sharp import hollow, manifest
from tests.encoders.sharp_sync import sync_state
from tests.golden.fill import GOLDEN, error, fill_, given

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN / "encoders" / "synchformer_audio.npz")


@pytest.fixture(scope="module")
def shallow():
    """One layer of twelve: everything but depth."""
    synchformer = SynchformerAudio(depth=1)
    fill_(synchformer)
    return synchformer.eval().requires_grad_(False)


def test_golden_spectrogram(golden):
    segments = torch.from_numpy(golden["waveform"])[0].unfold(0, 10240, 5120)
    assert error(SegmentSpectrogram()(segments), golden["spectrogram"]) < TOLERANCE


@torch.inference_mode()
@pytest.mark.parametrize("fill", ["base", "sharp"])
def test_golden_features(golden, fill):
    synchformer = load_synchformer_audio(sync_state("audio", fill))
    assert error(synchformer(torch.from_numpy(golden["waveform"]))[0], golden[f"{fill}_features"]) < TOLERANCE


@torch.inference_mode()
def test_segments_are_encoded_alone_and_in_order_however_many_at_once(shallow, monkeypatch):
    wave = 0.2 * given("test_wave", 2, 10_240 + 3 * 5_120 + 17)
    wave[:, -17:] = torch.nan  # no segment is full of them
    together = shallow(wave)
    assert together.shape == (2, 4, 6, 768)
    monkeypatch.setattr("mmaudio.encoders.synchformer_audio.MOST_SEGMENTS", 3)
    assert error(shallow(wave), together.numpy()) < 2e-6
    assert error(shallow(wave[1:, 5_120 : 5_120 + 10_240])[0, 0], together[1, 1].numpy()) < 2e-6


@torch.inference_mode()
def test_eight_seconds_are_24_segments_and_silence_is_encoded(shallow):
    features = shallow(torch.zeros(1, 128_000))
    assert features.shape == (1, 24, 6, 768)
    assert features.isfinite().all()


@pytest.mark.parametrize("shape", [(1, 10_239), (20_480,), (1, 1, 20_480)])
def test_other_sounds_are_refused(shallow, shape):
    with pytest.raises(ValueError, match=r"want \(clips, samples\) with at least 10240 samples"):
        shallow(torch.zeros(shape))


def test_parameters_are_the_tensors_of_the_file_and_other_groups_are_dropped():
    state = hollow(manifest("synchformer_audio"))
    synchformer = load_synchformer_audio(state | {"vfeat_extractor.norm.bias": torch.zeros(2), "vproj.bias": torch.zeros(2)})
    kept = synchformer.state_dict()
    assert set(kept) == set(state)
    assert all(kept[name].data_ptr() == state[name].data_ptr() for name in kept), "copied"
    assert not synchformer.training and not any(parameter.requires_grad for parameter in synchformer.parameters())
    assert not any(tensor.is_meta for tensor in synchformer.buffers())


@pytest.mark.parametrize("name", ["ast.embeddings.cls_token", "ast.encoder.layer.11.output.dense.bias", "freq_attn_agg.norm1.weight"])
def test_a_tensor_that_is_missing_misshapen_or_unknown_is_refused_by_name(name):
    name = f"afeat_extractor.{name}"
    state = hollow(manifest("synchformer_audio"))
    with pytest.raises(UserError, match=r"audio branch: afeat_extractor\.extra is not a tensor of it"):
        load_synchformer_audio(state | {"afeat_extractor.extra": torch.zeros(1)})
    given_one = state.pop(name)
    with pytest.raises(UserError, match=rf"{name} is missing; get the published file anew"):
        load_synchformer_audio(state)
    with pytest.raises(UserError, match=rf"{name} is \(2, .* want \("):
        load_synchformer_audio(state | {name: torch.stack([given_one, given_one])})
