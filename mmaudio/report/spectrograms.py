"""Sounds over time as arrays: log-frequency spectrograms and envelopes, a column per moment."""

from collections.abc import Sequence
from math import ceil

import numpy as np
import numpy.typing as npt
from scipy.fft import next_fast_len, rfft

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
