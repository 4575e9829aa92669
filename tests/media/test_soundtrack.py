"""The sound of videos: channels, rates, levels and silence, against waves known beforehand."""

import numpy as np
import pytest

from mmaudio.base.specs import AudioSpec
from mmaudio.media.audio import MediaError
from mmaudio.media.video import read_sound_track, read_video
from tests.media.made_videos import RATE_HZ, clicks, make_video, write_pcm

SPEC = AudioSpec("16k", 1.28)
CLIP_S = SPEC.num_samples / RATE_HZ


def test_channels_are_averaged_and_the_whole_track_sets_the_level(tmp_path):
    for num_channels in (1, 2, 6):
        channels = 0.2 * np.random.default_rng(num_channels).uniform(-1, 1, (num_channels, 2 * RATE_HZ))
        channels[:, -1] = 0.5
        path = write_pcm(tmp_path / "a.mov", channels)
        mono = channels.mean(axis=0)[: SPEC.num_samples]
        plain = read_video(path, SPEC, with_sound=True, normalise=False).wave
        np.testing.assert_allclose(plain, mono, atol=1e-4)
        level = read_video(path, SPEC, with_sound=True, normalise=True).wave
        np.testing.assert_allclose(level, mono / 0.5 * 0.95, atol=2e-4)


@pytest.mark.parametrize("mode", ["16k", "44k"])
@pytest.mark.parametrize(
    ("rate_hz", "num_channels"), [(8_000, 1), (11_025, 2), (22_050, 1), (32_000, 6), (44_100, 2), (48_000, 6), (96_000, 2), (192_000, 1)]
)
def test_any_rate_becomes_that_of_the_mode(tmp_path, rate_hz, num_channels, mode):
    spec = AudioSpec(mode, 1.28)
    gains = np.arange(1, num_channels + 1)[:, None] / num_channels
    path = write_pcm(tmp_path / "a.mov", 0.6 * gains * np.sin(2 * np.pi * 700 * np.arange(round(1.6 * rate_hz)) / rate_hz), rate_hz)
    wave = read_video(path, spec, with_sound=True, normalise=False).wave.numpy()
    want = 0.6 * gains.mean() * np.sin(2 * np.pi * 700 * np.arange(spec.num_samples) / spec.rate_hz)
    assert wave.shape == want.shape
    inner = slice(spec.rate_hz // 20, None)  # before its start the resampler sees silence; the cut at the end is not heard
    np.testing.assert_allclose(wave[inner], want[inner], atol=2e-4)


def silent_until(start_s, *, level=0.5, rate_hz=RATE_HZ):
    wave = np.zeros((1, 3 * rate_hz))
    wave[0, round(start_s * rate_hz) :] = level
    return wave


@pytest.mark.parametrize("rate_hz", [RATE_HZ, 44_100])
def test_a_clip_before_the_sound_begins_is_silent(tmp_path, rate_hz):
    """The sound that begins in the margin read for the resampler is not the clip's."""
    path = write_pcm(tmp_path / "a.mov", silent_until(CLIP_S + 2 / RATE_HZ, rate_hz=rate_hz), rate_hz)
    with pytest.raises(MediaError, match=r"^silent: the largest sample of the clip is 0\.0e\+00$"):
        read_video(path, SPEC, with_sound=True)
    assert read_video(path, SPEC, with_sound=True, normalise=False).wave.shape == (SPEC.num_samples,)
    assert read_video(path, SPEC, with_sound=False).wave is None


def test_one_audible_sample_is_sound_and_the_whole_track_sets_its_level(tmp_path):
    path = write_pcm(tmp_path / "a.mov", silent_until(CLIP_S - 1 / RATE_HZ))
    wave = read_video(path, SPEC, with_sound=True).wave
    assert not wave[:-1].any() and wave[-1] == pytest.approx(0.95)
    quiet = silent_until(CLIP_S)
    quiet[0, 100] = 1 / 32767  # the quietest sample of 16 bits, far from silence
    wave = read_video(write_pcm(tmp_path / "a.mov", quiet), SPEC, with_sound=True).wave
    assert wave[100] == pytest.approx(0.95 / 32768 / 0.5, rel=1e-3) == wave.abs().max()


def test_a_track_without_any_sound_says_so_of_all_of_it(tmp_path):
    path = write_pcm(tmp_path / "a.mov", np.zeros((2, 2 * RATE_HZ)))
    with pytest.raises(MediaError, match=r"^silent: the largest sample is 0\.0e\+00$"):
        read_video(path, SPEC, with_sound=True)


def test_only_what_is_wanted_of_the_sound_is_kept(tmp_path):
    path = make_video(tmp_path / "a.mp4", 0.8, 25, clicks(6.0, 0.5, 5.5))
    whole, part = read_sound_track(path), read_sound_track(path, 1.0)
    np.testing.assert_array_equal(part.wave, whole.wave[:RATE_HZ])
    assert part.file_peak == whole.file_peak == np.abs(whole.wave).max()
    stopped = read_sound_track(path, 0.4, whole_peak=False)
    assert len(stopped.wave) == 0.4 * RATE_HZ and stopped.file_peak < 0.1
