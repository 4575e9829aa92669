"""Timbre ranks above timing; the Fréchet distance has its closed forms."""

import zlib

import numpy as np
import pytest

from mmaudio.metrics.distances import MelTally, average_spectrum_db, frechet_distance, spectral_distance

RATE_HZ = 16_000


def hits(pitch_hz, times_s, duration_s=2.0, level=0.5, decay_s=0.1):
    wave = np.zeros(round(RATE_HZ * duration_s))
    for start_s in times_s:
        at = round(start_s * RATE_HZ)
        time = np.arange(len(wave) - at) / RATE_HZ
        wave[at:] += level * np.exp(-time / decay_s) * np.sin(2 * np.pi * pitch_hz * time)
    return wave.astype(np.float32)


def golden(tag, shape):
    """The standard normals that golden figures are stated for: Philox keyed by the CRC of the tag."""
    return np.random.Generator(np.random.Philox(key=zlib.crc32(b"input:" + tag.encode()))).standard_normal(shape, dtype=np.float32)


@pytest.mark.parametrize("pitch_hz", [110, 300, 900, 2500])
def test_same_timbre_at_other_times_is_nearer_than_other_timbre_at_the_same_times(pitch_hz):
    truth = hits(pitch_hz, [0.2, 0.8, 1.5])
    shifted = hits(pitch_hz, [0.35, 0.6, 1.1, 1.3], level=0.2) + 1e-3 * np.random.default_rng(0).standard_normal(len(truth))
    other = hits(pitch_hz * 1.5, [0.2, 0.8, 1.5])
    assert spectral_distance(shifted, truth, RATE_HZ) < 0.5 * spectral_distance(other, truth, RATE_HZ)


def test_spectral_distance_grows_with_the_difference_and_is_symmetric():
    truth, near, far = (hits(pitch_hz, [0.2, 0.8]) for pitch_hz in (500, 600, 1500))
    assert spectral_distance(truth, truth, RATE_HZ) == 0
    assert 0 < spectral_distance(near, truth, RATE_HZ) < spectral_distance(far, truth, RATE_HZ) <= 40
    assert spectral_distance(far, truth, RATE_HZ) == spectral_distance(truth, far, RATE_HZ)


def test_level_costs_nothing_and_silence_is_unlike_sound():
    truth, silence = hits(500, [0.2]), np.zeros(16_000)
    assert spectral_distance(0.1 * truth, truth, RATE_HZ) < 1e-4
    assert spectral_distance(silence, silence[:10], RATE_HZ) == 0
    assert spectral_distance(silence, truth, RATE_HZ) > 1
    assert (average_spectrum_db(1e-5 * truth, RATE_HZ) == -40).all()


def normal_statistics(samples):
    return samples.mean(axis=0), np.cov(samples, rowvar=False)


def test_frechet_distance_closed_forms():
    mean, spread = np.array([1.0, -2.0]), np.diag([4.0, 9.0])
    assert frechet_distance(mean, spread, mean + 3, spread) == pytest.approx(18)
    assert frechet_distance(mean, spread, mean, np.diag([1.0, 1.0])) == pytest.approx((2 - 1) ** 2 + (3 - 1) ** 2)


@pytest.mark.parametrize(("items", "dims"), [(500, 6), (50, 128), (2, 64)])
def test_a_set_is_no_distance_from_itself(items, dims):
    statistics = normal_statistics(30 * np.random.default_rng(items).standard_normal((items, dims)))
    assert frechet_distance(*statistics, *statistics) == pytest.approx(0, abs=1e-6)


def test_frechet_distance_equals_the_golden_figure():
    a, b = golden("metrics:fd:a", (40, 6)), 0.8 * golden("metrics:fd:b", (50, 6)) + 0.3
    assert frechet_distance(*normal_statistics(a), *normal_statistics(b)) == pytest.approx(1.6801204339135847, rel=1e-5)


def test_frechet_distance_refuses_what_it_cannot_tell():
    with pytest.raises(ValueError, match="fit"):
        frechet_distance(np.zeros(2), np.eye(2), np.zeros(3), np.eye(3))
    with pytest.raises(ValueError, match="finite"):
        frechet_distance(np.array([0.0, np.nan]), np.eye(2), np.zeros(2), np.eye(2))


def tally(waves):
    mels = MelTally(RATE_HZ)
    for wave in waves:
        mels.add(wave)
    return mels.statistics()


def test_mel_statistics_are_those_of_all_frames():
    low, high = hits(200, [0.1, 0.7]), hits(2000, [0.1, 0.7])
    both, one = tally([low, low, high]), tally([low])
    assert both.num_frames == 3 * one.num_frames
    np.testing.assert_allclose(both.mean, (2 * one.mean + tally([high]).mean) / 3)
    assert np.linalg.eigvalsh(both.covariance).min() > -1e-8
    same = frechet_distance(one.mean, one.covariance, one.mean, one.covariance)
    assert same == pytest.approx(0, abs=1e-6)
    assert frechet_distance(both.mean, both.covariance, one.mean, one.covariance) > 1


def test_mel_statistics_need_frames():
    with pytest.raises(ValueError, match="at least 2"):
        MelTally(RATE_HZ).statistics()
