"""A wave as energy in mel-spaced bands over time: what the onset detector and the distances look at.

Triangular filters on the mel scale of O'Shaughnessy (1987), 2595 log10(1 + f / 700). These analyses have their own
windows and are no part of any codec, so that a codec's choices cannot flatter its own scores.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Analysis:
    """How a wave is cut and filtered. Frames are centred at multiples of the hop; the ends are mirrored."""

    window_s: float
    hop_s: float
    num_bands: int
    low_hz: float
    high_hz: float  # at most; half the sampling rate where that is lower


def check_wave(wave: npt.ArrayLike) -> Floats:
    """The wave as float64 (samples,). Raises: ValueError if it has another shape or holds NaN or infinity."""
    samples = np.asarray(wave, dtype=np.float64)
    if samples.ndim != 1:
        raise ValueError(f"a wave has shape (samples,); got {samples.shape}")
    if not np.isfinite(samples).all():
        raise ValueError("the sound holds samples that are not finite numbers")
    return samples


@lru_cache(maxsize=16)
def mel_filters(num_bins: int, rate_hz: int, num_bands: int, low_hz: float, high_hz: float) -> Floats:
    """Triangles of peak 1 over the bins of a real Fourier transform, (bands, bins); neighbours meet at half height.

    A triangle narrower than a bin is widened to the bin's width, so that no band is blind.
    """
    top_mel = 2595 * np.log10(1 + min(high_hz, rate_hz / 2) / 700)
    edges_mel = np.linspace(2595 * np.log10(1 + low_hz / 700), top_mel, num_bands + 2)
    edges_hz = 700 * (10 ** (edges_mel / 2595) - 1)
    bins_hz = np.linspace(0, rate_hz / 2, num_bins)
    left, centre, right = edges_hz[:-2, None], edges_hz[1:-1, None], edges_hz[2:, None]
    rise, fall = np.maximum(centre - left, bins_hz[1]), np.maximum(right - centre, bins_hz[1])
    filters: Floats = np.clip(np.minimum(1 - (centre - bins_hz) / rise, 1 - (bins_hz - centre) / fall), 0, None)
    filters.setflags(write=False)
    return filters


def band_power(wave: npt.ArrayLike, rate_hz: int, how: Analysis) -> Floats:
    """Power in each band and frame, (frames, bands); a full-scale sine in the middle of a band has power 1.

    Args:
        wave: (samples,), full scale is 1.
        rate_hz: its sampling rate.
    Returns: samples // hop + 1 frames; none at all for a sound shorter than half a window.
    Raises: ValueError for another shape or samples that are not finite.
    """
    samples = check_wave(wave)
    window, hop = round(how.window_s * rate_hz), max(1, round(how.hop_s * rate_hz))
    if len(samples) <= window // 2:
        return np.zeros((0, how.num_bands))
    num_frames = len(samples) // hop + 1
    mirrored = np.pad(samples, (window // 2, window - window // 2), mode="reflect")
    pieces = np.lib.stride_tricks.sliding_window_view(mirrored, window)[::hop][:num_frames]
    shape = np.hanning(window)
    num_fft = 1 << (window - 1).bit_length()
    amplitude = np.abs(np.fft.rfft(pieces * shape, num_fft)) / (shape.sum() / 2)
    filters = mel_filters(num_fft // 2 + 1, rate_hz, how.num_bands, how.low_hz, how.high_hz)
    return np.square(amplitude) @ filters.T


def decibels(power: Floats, floor_db: float) -> Floats:
    """Ten times the logarithm of power, nowhere below `floor_db`."""
    return 10 * np.log10(np.maximum(power, 10 ** (floor_db / 10)))
