"""Which extractors there are, what they need, and how sounds come to them."""

import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch

from mmaudio.base.errors import UserError
from mmaudio.media.audio import MediaError, Sound
from mmaudio.metrics.extractors import EXTRACTORS, extractors_for, waves
from mmaudio.metrics.extractors import available as requirements
from mmaudio.metrics.extractors.available import check_requirements, weights_needed
from mmaudio.metrics.extractors.clap import fill_ten_seconds
from mmaudio.metrics.extractors.waves import first_samples, read_centred, read_exactly, resample_default
from mmaudio.metrics.feature_cache import CACHE_FILES
from mmaudio.weights import CATALOGUE
from tests.golden.fill import GOLDEN


def test_the_table_agrees_with_caches_and_the_catalogue():
    stems = [stem for extractor in EXTRACTORS.values() for stem in extractor.stems]
    assert len(stems) == len(set(stems)) and set(stems) <= set(CACHE_FILES)
    assert {name: extractor.name for name, extractor in EXTRACTORS.items()} == {name: name for name in EXTRACTORS}
    assert set(weights_needed(EXTRACTORS.values())) <= set(CATALOGUE)


def test_judges_for_stems():
    extractors, unknown = extractors_for(["passt_logits", "vggish_features", "clap_laion_text", "imagebind_audio"])
    assert [extractor.name for extractor in extractors] == ["passt", "clap_laion_text"] and unknown == (
        "imagebind_audio",
        "vggish_features",
    )
    assert extractors_for([]) == ((), ())


def test_the_table_comes_without_torch_and_the_extras():
    heavy = {"torch", "transformers", "hear21passt", "av"}
    code = f"import sys; from mmaudio.metrics.extractors import EXTRACTORS; assert not {heavy!r} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_all_that_is_missing_is_told_at_once(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(requirements, "find_spec", lambda name: None)
    with pytest.raises(UserError) as told:
        check_requirements(EXTRACTORS.values(), {"passt": "gone.pt"}, 0.5)
    sentences = told.value.sentences
    assert sum("pip install 'mmaudio[evaluate]'" in sentence for sentence in sentences) == 3
    assert any("there is no file at gone.pt" in sentence for sentence in sentences)
    assert sum("at least 0.64 s" in sentence for sentence in sentences) == 2


def test_nothing_is_missing(tmp_path):
    check_requirements(EXTRACTORS.values(), {}, 8.0)


@pytest.mark.parametrize("key", ["44100_16000_2205", "44100_32000_2205", "16000_48000_800"])
def test_the_default_resampler(key):
    golden = np.load(GOLDEN / "resample_default.npz")
    from_hz, to_hz, _ = map(int, key.split("_"))
    got = resample_default(torch.from_numpy(golden[f"in_{key}"]), from_hz, to_hz)
    assert np.abs(got.numpy() - golden[f"out_{key}"]).max() < 1e-6


def test_a_wave_is_centred_over_all_of_it_and_cut_but_never_padded():
    wave = np.concatenate([np.full(800, 0.5), np.full(2400, -0.1)]).astype(np.float32)  # the mean is 0.05
    sound = Sound(wave, 800, 0.5)
    assert torch.allclose(first_samples(sound, 800, 2.0, centred=True), torch.tensor([0.45] * 800 + [-0.15] * 800))
    assert torch.allclose(first_samples(sound, 800, 2.0, centred=False), torch.tensor([0.5] * 800 + [-0.1] * 800))
    assert len(first_samples(sound, 800, 9.0, centred=True)) == 3200


def test_where_a_sound_is_cut_is_not_heard():
    sound = Sound(np.random.default_rng(0).uniform(-1, 1, 44_100).astype(np.float32), 44_100, 1.0)
    whole = resample_default(torch.from_numpy(sound.wave), 44_100, 32_000)[:16_000]
    assert torch.allclose(first_samples(sound, 32_000, 0.5, centred=False), whole, atol=1e-6)


@pytest.mark.parametrize(
    ("wave", "reason"),
    [
        (np.zeros(0), "it holds no sound"),
        (np.full(8000, np.nan), "not finite"),
        (np.full(8000, 3e38), "too large"),
    ],
)
def test_sounds_that_cannot_be_judged(tmp_path, wave, reason):
    path = tmp_path / "a.wav"
    soundfile.write(path, wave.astype(np.float32), 8000, subtype="FLOAT")
    with pytest.raises(MediaError, match=reason):
        read_centred(path, 48_000, 1.0)


def test_a_short_sound_where_all_have_to_be_of_one_length(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(12_345), 8000)
    assert len(read_exactly(path, 16_000, 1.5)) == 24_000
    with pytest.raises(MediaError, match=r"too short: 1\.54 s of sound, want 8 s"):
        read_exactly(path, 16_000, 8.0)


def test_a_rate_without_a_convenient_ratio(monkeypatch):
    monkeypatch.setattr(waves, "LARGEST_TABLE", 1000)
    with pytest.raises(MediaError, match="7919 Hz"):
        resample_default(torch.zeros(10), 7919, 16_000)


def test_ten_seconds_are_filled_by_whole_repeats():
    filled = fill_ten_seconds(torch.arange(200_000.0))
    assert len(filled) == 480_000 and torch.equal(filled[200_000:400_000], torch.arange(200_000.0)) and not filled[400_000:].any()
    assert torch.equal(fill_ten_seconds(torch.arange(500_000.0)), torch.arange(480_000.0))
