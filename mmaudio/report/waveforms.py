"""A sound as one picture.

Pixels are numbers of a palette and are written as such: no figure is laid out, so a picture takes milliseconds. What is
written beside it (seconds, frequencies) is the page's text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.fft import next_fast_len, rfft

# ---- Sounds over time as arrays: log-frequency spectrograms and envelopes, a column per moment

WINDOW_S = 0.032
_LONGEST_HOP_S = 0.016  # half a window: nothing falls between two of them
LOW_HZ, HIGH_HZ, NUM_ROWS = 60.0, 8000.0, 160
_FINER = 8  # a row shows the loudest of so many places in it: high rows are wider than a tone
SILENCE_DB = -60.0  # below full scale: a pair of near-silent sounds is drawn dark, not amplified
Levels = npt.NDArray[np.float32]


def spectrogram(wave: npt.ArrayLike, rate_hz: int, column_s: float = 0.004) -> Levels:
    """Analyse a wave, (samples,), with 32 ms Hann windows, a column every `column_s`.

    Wide columns show the loudest of several windows. A sound shorter than a window is padded. Values that are not
    finite count as silence.

    Returns: levels in dB of full scale, (rows, columns); rows are frequencies from `LOW_HZ` to `HIGH_HZ`, low first, spaced
        evenly by their logarithm. Those above half of `rate_hz` are silent.
    """
    samples = np.nan_to_num(np.asarray(wave, dtype=np.float32))
    window = max(2, round(WINDOW_S * rate_hz))
    per_column = max(1, ceil(column_s / _LONGEST_HOP_S))
    num_columns = max(1, round(len(samples) / rate_hz / column_s))
    centres_s = (np.arange(num_columns * per_column) + 0.5) * column_s / per_column
    starts = np.minimum(np.round(centres_s * rate_hz).astype(np.int64), len(samples))
    padded = np.pad(samples, (window // 2, window))
    power = _powers(np.lib.stride_tricks.sliding_window_view(padded, window)[starts])
    at_rows = _at_rows(power, rate_hz).reshape(num_columns, per_column, NUM_ROWS).max(axis=1)
    return np.asarray(10 * np.log10(np.maximum(at_rows.T, 1e-12)))


def _powers(pieces: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Power of windowed pieces (windows, samples) at each frequency of a transform of at least twice their length."""
    window = pieces.shape[1]
    shape = np.hanning(window).astype(np.float32)
    spectrum = rfft(pieces * (shape / (shape.sum() / 2)), next_fast_len(2 * window, real=True), axis=1)
    return np.asarray(np.square(spectrum.real) + np.square(spectrum.imag), dtype=np.float32)


def _at_rows(power: npt.NDArray[np.float32], rate_hz: int) -> npt.NDArray[np.float32]:
    """(windows, rows) the loudest power in each row's band, interpolated between the transform's frequencies."""
    last = power.shape[1] - 1
    places = np.geomspace(LOW_HZ, HIGH_HZ, NUM_ROWS * _FINER) / (rate_hz / 2) * last
    right = np.clip(np.ceil(places).astype(np.int64), 1, last)
    share = (places - (right - 1)).astype(np.float32)
    levels = np.where(places <= last, power[:, right - 1] * (1 - share) + power[:, right] * share, 0)
    return np.asarray(levels.reshape(len(power), NUM_ROWS, _FINER).max(axis=2))


def shared_top_db(pictures: Sequence[Levels]) -> float:
    """The level drawn brightest in all of them, so that equal colours mean equal levels."""
    return max(SILENCE_DB, *(float(levels.max()) for levels in pictures))


def envelope(wave: npt.ArrayLike, rate_hz: int, column_s: float) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """The lowest and the highest sample of each column, both (columns,); as many columns as the spectrogram has."""
    samples = np.nan_to_num(np.asarray(wave, dtype=np.float32))
    num_columns = max(1, round(len(samples) / rate_hz / column_s))
    if not len(samples):
        return np.zeros(num_columns, np.float32), np.zeros(num_columns, np.float32)
    starts = np.minimum((np.arange(num_columns) * column_s * rate_hz).astype(np.int64), len(samples) - 1)
    return np.minimum.reduceat(samples, starts), np.maximum.reduceat(samples, starts)


# ---- The picture

NUM_COLUMNS, WAVE_ROWS, GAP_ROWS = 800, 56, 4
HEIGHT_PX = WAVE_ROWS + GAP_ROWS + NUM_ROWS
RANGE_DB = 70.0
_QUIETEST_PEAK = 1e-3  # a fainter sound is not drawn larger
_GROUND, _WAVE, _MIDDLE, _OWN, _OTHER = range(5)
_COLOURS = ("#12111a", "#9d95f5", "#3a3850", "#7ce8ff", "#ffffff")  # of these, in order
_FIRST_LEVEL = 16
_NUM_LEVELS = 256 - _FIRST_LEVEL
_DOT_ROWS = 5
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Heard:
    """What is drawn of a sound: its wave (samples,), full scale 1, and the times of its onsets."""

    wave: npt.NDArray[np.float32]
    rate_hz: int
    onsets_s: Sequence[float] = ()

    @property
    def duration_s(self) -> float:
        """How long it is."""
        return len(self.wave) / self.rate_hz


def timeline_s(sounds: Sequence[Heard]) -> float:
    """The length of the time axis that sounds share: that of the longest."""
    return max([sound.duration_s for sound in sounds], default=0.0) or 1.0


@cache
def _palette() -> bytes:
    from matplotlib import colormaps
    from matplotlib.colors import to_rgb

    fixed = np.zeros((_FIRST_LEVEL, 3))
    fixed[: len(_COLOURS)] = [to_rgb(colour) for colour in _COLOURS]
    levels = colormaps["magma"](np.linspace(0, 1, _NUM_LEVELS))[:, :3]
    return bytes(np.round(255 * np.concatenate([fixed, levels])).astype(np.uint8))


def _wave_pixels(sound: Heard, column_s: float, peak: float) -> Pixels:
    low, high = envelope(sound.wave, sound.rate_hz, column_s)
    middle, reach = (WAVE_ROWS - 1) / 2, (WAVE_ROWS - 3) / 2 / peak
    rows = np.arange(WAVE_ROWS)[:, None]
    inside = (rows >= np.floor(middle - high * reach)) & (rows <= np.ceil(middle - low * reach))
    pixels = np.full((WAVE_ROWS, len(low)), _GROUND, np.uint8)
    pixels[round(middle)] = _MIDDLE
    pixels[inside] = _WAVE
    return pixels


def _level_pixels(level_db: Levels, top_db: float) -> Pixels:
    share = np.clip((level_db[::-1] - (top_db - RANGE_DB)) / RANGE_DB, 0, 1)
    return (_FIRST_LEVEL + np.round(share * (_NUM_LEVELS - 1))).astype(np.uint8)


def _mark_(pixels: Pixels, columns: Sequence[int], other_columns: Sequence[int]) -> None:
    """Draw triangles above a spectrogram's own onsets, and dotted lines at those of the sounds beside it."""
    for column in other_columns:
        pixels[WAVE_ROWS + GAP_ROWS :: _DOT_ROWS, column : column + 2] = _OTHER
    for column in columns:
        for row in range(7):
            reach = 5 - row * 5 // 6
            pixels[WAVE_ROWS + row, max(0, column - reach) : column + reach + 1] = _OWN


def _placed(onsets_s: Sequence[float], column_s: float) -> list[int]:
    return [column for onset_s in onsets_s if 0 <= (column := round(onset_s / column_s)) < NUM_COLUMNS]


def draw_sounds(paths: Sequence[Path], sounds: Sequence[Heard]) -> None:
    """Write a picture of each sound, all on one time axis (the longest's), one colour scale and one scale of amplitude.

    Triangles mark a sound's onsets, dotted lines those of the others.
    """
    if not sounds:
        return
    column_s = timeline_s(sounds) / NUM_COLUMNS
    spectra = [spectrogram(sound.wave, sound.rate_hz, column_s) for sound in sounds]
    top_db = shared_top_db(spectra)
    peak = max(_QUIETEST_PEAK, *(float(np.abs(np.nan_to_num(sound.wave)).max(initial=0.0)) for sound in sounds))
    for place, (path, sound, spectrum) in enumerate(zip(paths, sounds, spectra, strict=True)):
        pixels = np.full((HEIGHT_PX, NUM_COLUMNS), _GROUND, np.uint8)
        wave, levels = _wave_pixels(sound, column_s, peak), _level_pixels(spectrum, top_db)
        pixels[:WAVE_ROWS, : wave.shape[1]] = wave[:, :NUM_COLUMNS]
        pixels[WAVE_ROWS + GAP_ROWS :, : levels.shape[1]] = levels[:, :NUM_COLUMNS]
        others = [onset for index, other in enumerate(sounds) if index != place for onset in other.onsets_s]
        _mark_(pixels, _placed(sound.onsets_s, column_s), _placed(others, column_s))
        picture = Image.fromarray(pixels)  # its pixels are grey levels so far; the palette gives them their colours
        picture.putpalette(_palette())
        picture.save(path, format="PNG")
