"""Onsets of sounds whose onsets are known, and the score's closed forms."""

import numpy as np
import pytest
import torch
import torchaudio

from mmaudio.metrics.onsets import onset_f1, onset_times

RATE_HZ = 16_000


def thuds(seed, rate_hz=RATE_HZ, duration_s=2.5, noise_db=None, attack_s=0.0):
    """A wave of decaying sinusoids of one pitch and the times they start."""
    draw = np.random.default_rng(seed)
    pitch_hz, decay_s = np.exp(draw.uniform(np.log(110), np.log(3000))), draw.uniform(0.06, 0.4)
    wave, times, start_s = np.zeros(round(rate_hz * duration_s)), [], draw.uniform(0.05, 0.4)
    while start_s < duration_s - 0.15 and len(times) < 7:
        at = round(start_s * rate_hz)
        time = np.arange(len(wave) - at) / rate_hz
        attack = np.minimum(1, time / attack_s) if attack_s else 1.0
        wave[at:] += draw.uniform(0.25, 1) * attack * np.exp(-time / decay_s) * np.sin(2 * np.pi * pitch_hz * time)
        times.append(start_s)
        start_s += 0.2 + draw.exponential(0.25)
    wave *= 0.7 / np.abs(wave).max()
    if noise_db is not None:
        wave += draw.standard_normal(len(wave)) * 10 ** (noise_db / 20)
    return wave.astype(np.float32), np.array(times)


def through_phase_retrieval(wave):
    """The wave rebuilt from 80 mel bands by Griffin and Lim's method, as a vocoder without weights does."""
    window = torch.hann_window(1024)
    magnitude = torch.stft(torch.from_numpy(wave), 1024, 256, window=window, return_complex=True).abs()
    filters = torchaudio.functional.melscale_fbanks(513, 0.0, 8000.0, 80, RATE_HZ, norm="slaney", mel_scale="slaney")
    rough = (torch.linalg.pinv(filters.T) @ (filters.T @ magnitude)).clamp_min(0)
    return torchaudio.functional.griffinlim(rough[None], window, 1024, 256, 1024, 1.0, 32, 0.9, len(wave), False)[0].numpy()


def mean_f1(sounds, rate_hz, tolerance_s):
    return np.mean([onset_f1(onset_times(wave, rate_hz), times, tolerance_s).f1 for wave, times in sounds])


@pytest.mark.parametrize(
    ("rate_hz", "noise_db", "attack_s"), [(16_000, None, 0.0), (16_000, -50, 0.0), (16_000, -50, 0.004), (44_100, -50, 0.0)]
)
def test_synthetic_thuds_are_found_within_20_ms(rate_hz, noise_db, attack_s):
    sounds = [thuds(seed, rate_hz, noise_db=noise_db, attack_s=attack_s) for seed in range(30)]
    assert mean_f1(sounds, rate_hz, 0.02) >= 0.95


def test_times_have_no_bias():
    scores = [onset_f1(onset_times(wave, RATE_HZ), times, 0.05) for wave, times in (thuds(seed) for seed in range(30))]
    assert abs(np.mean([score.mean_offset_s for score in scores])) < 0.004


def test_thuds_are_found_after_phase_retrieval():
    sounds = [(through_phase_retrieval(wave), times) for wave, times in (thuds(seed, noise_db=-60) for seed in range(15))]
    assert mean_f1(sounds, RATE_HZ, 0.02) >= 0.95


def test_level_does_not_matter():
    wave, _ = thuds(3)
    np.testing.assert_allclose(onset_times(wave, RATE_HZ), onset_times(0.1 * wave, RATE_HZ), atol=0.006)


TIME = np.arange(40_000) / RATE_HZ
NO_EVENTS = {
    "silence": np.zeros(40_000),
    "nothing": np.zeros(0),
    "a few samples": np.ones(100),
    "a constant": np.full(40_000, 0.3),
    "faint noise": 1e-3 * np.random.default_rng(0).standard_normal(40_000),
    "loud noise": 0.1 * np.random.default_rng(0).standard_normal(40_000),
    "faint thuds": 5e-4 * thuds(0)[0],
    "a tone": 0.3 * np.sin(2 * np.pi * 1000 * TIME),
    "a tone that fades in": 0.3 * np.minimum(1, TIME / 0.3) * np.sin(2 * np.pi * 200 * TIME),
    "a tail": 0.9 * np.exp(-TIME / 0.5) * np.sin(2 * np.pi * 300 * TIME),
    "vibrato": 0.3 * np.sin(2 * np.pi * 220 * TIME + 5 * np.sin(2 * np.pi * 5 * TIME)),
    "tremolo": 0.3 * np.sin(2 * np.pi * 220 * TIME) * (1 + 0.3 * np.sin(2 * np.pi * 5 * TIME)),
}


@pytest.mark.parametrize("name", NO_EVENTS)
def test_sounds_without_events_have_no_onsets(name):
    assert len(onset_times(NO_EVENTS[name], RATE_HZ)) == 0


def test_waves_that_are_no_waves_are_refused():
    with pytest.raises(ValueError, match="finite"):
        onset_times(np.array([0.0, np.nan] * 2000), RATE_HZ)
    with pytest.raises(ValueError, match="shape"):
        onset_times(np.zeros((2, 4000)), RATE_HZ)


def test_score_of_equal_onsets_is_one():
    score = onset_f1([0.1, 0.5], [0.5, 0.1])
    assert (score.f1, score.precision, score.recall, score.mean_offset_s) == (1.0, 1.0, 1.0, 0.0)


def test_score_of_empty_sides():
    assert onset_f1([], []).f1 == 1.0
    assert onset_f1([], [0.1]).f1 == onset_f1([0.1], []).f1 == 0.0
    assert onset_f1([], []).mean_offset_s is None


def test_an_onset_matches_once():
    score = onset_f1([0.50, 0.51, 0.52], [0.5])
    assert (score.precision, score.recall, score.f1) == (pytest.approx(1 / 3), 1.0, pytest.approx(0.5))


def test_the_matching_has_most_pairs():
    # 0.2 is nearest to 0.25, but taking it would leave 0.33 without a partner.
    score = onset_f1([0.2, 0.33], [0.11, 0.25], tolerance_s=0.1)
    assert score.num_matched == 2
    assert score.mean_offset_s == pytest.approx(0.085)


def test_the_tolerance_is_inclusive():
    assert onset_f1([0.3], [0.2], tolerance_s=0.1).f1 == 1.0
    assert onset_f1([0.3011], [0.2], tolerance_s=0.1).f1 == 0.0
