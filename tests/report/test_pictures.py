"""Spectrograms show a tone at its pitch, and pictures of one sample share their scales."""

import numpy as np
import pytest
from PIL import Image

from mmaudio.report.waveforms import HEIGHT_PX, HIGH_HZ, LOW_HZ, NUM_COLUMNS, NUM_ROWS, WAVE_ROWS, Heard, draw_sounds, envelope, spectrogram
from tests.report.pages import RATE_HZ, tone


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100])
@pytest.mark.parametrize("pitch_hz", [120, 700, 3900])
def test_a_tone_is_drawn_at_its_pitch_whatever_the_rate(pitch_hz, rate_hz):
    level_db = spectrogram(tone(pitch_hz, rate_hz=rate_hz), rate_hz)
    assert level_db.shape == (NUM_ROWS, 250)
    row = level_db.mean(axis=1).argmax()
    assert np.geomspace(LOW_HZ, HIGH_HZ, NUM_ROWS)[row] == pytest.approx(pitch_hz, rel=0.06)
    assert level_db.max() == pytest.approx(20 * np.log10(0.5), abs=1.5)


def test_there_is_nothing_above_half_the_rate():
    noise = np.random.default_rng(0).normal(0, 0.1, 8_000).astype(np.float32)
    is_above = np.geomspace(LOW_HZ, HIGH_HZ, NUM_ROWS) > 4_100
    assert spectrogram(noise, 8_000)[is_above].max() < -119 < spectrogram(noise, 8_000)[~is_above].min()


def test_nothing_falls_between_wide_columns():
    wave = np.zeros(60 * RATE_HZ, np.float32)
    wave[round(30.0313 * RATE_HZ) :][:32] = 1
    loudest = spectrogram(wave, RATE_HZ, column_s=0.1).max(axis=0)
    assert loudest.argmax() == 300
    low, high = envelope(wave, RATE_HZ, 0.1)
    assert (high.argmax(), low.min(), len(high)) == (300, 0.0, 600)


def colours(path):
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"), dtype=int)


def test_pictures_share_size_time_and_colour(tmp_path):
    paths = [tmp_path / "short.png", tmp_path / "long.png"]
    draw_sounds(paths, [Heard(tone(400, 1.0), RATE_HZ, [0.25]), Heard(0.1 * tone(400, 2.0), RATE_HZ, [0.25, 1.5])])
    short, long = map(colours, paths)
    assert short.shape == long.shape == (HEIGHT_PX, NUM_COLUMNS, 3)
    ground = short[0, -1]
    assert (short[:, NUM_COLUMNS // 2 + 2 :] == ground).all(axis=2).mean() > 0.98, "half the time is not in the shorter sound"
    brightest = [picture[WAVE_ROWS + 12 :, 210:390].sum(axis=2).max() for picture in (short, long)]
    assert brightest[0] > brightest[1] + 100, "a fainter sound is drawn darker"
    heights = [(picture[:WAVE_ROWS] != ground).any(axis=2).any(axis=1).sum() for picture in (short, long)]
    assert heights[0] > 6 * heights[1], "and smaller"
    assert (long[WAVE_ROWS + 1, 600] == (0x7C, 0xE8, 0xFF)).all(), "its onset is marked by a triangle"
    assert (short[WAVE_ROWS + 4 :: 5, 600] == 255).all(), "and by a dotted line in the other picture"


@pytest.mark.parametrize("length", [0, 10, RATE_HZ])
def test_a_short_or_silent_sound_has_a_picture(tmp_path, length):
    draw_sounds([tmp_path / "a.png"], [Heard(np.zeros(length, np.float32), RATE_HZ)])
    assert colours(tmp_path / "a.png").shape == (HEIGHT_PX, NUM_COLUMNS, 3)
    draw_sounds([], [])
