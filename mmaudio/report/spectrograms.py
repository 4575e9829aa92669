"""Pictures of sounds: log-frequency spectrograms with onset marks, as PNG files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

WINDOW_S, HOP_S = 0.032, 0.004
LOW_HZ, HIGH_HZ, NUM_ROWS = 60.0, 8000.0, 160
_FINER = 8  # a row shows the loudest of so many places in it: high rows are wider than a tone
RANGE_DB = 70.0
SILENCE_DB = -60.0  # below full scale: a pair of near-silent sounds is drawn dark, not amplified
_SIZE_IN, _DPI = (5.6, 2.3), 110
_GROUND, _TEXT, _OWN, _OTHER = "#12111a", "#c9c6d6", "#7ce8ff", "#ffffff"
_MARKED_HZ = (100, 300, 1000, 3000)

Levels = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Spectrogram:
    """Levels in dB of full scale, (rows, frames); rows are frequencies spaced evenly by their logarithm, low first."""

    level_db: Levels
    low_hz: float
    high_hz: float
    duration_s: float


def spectrogram(wave: npt.ArrayLike, rate_hz: int) -> Spectrogram:
    """Analyse a wave, (samples,), with 32 ms Hann windows every 4 ms. A sound shorter than a window is padded."""
    samples = np.nan_to_num(np.asarray(wave, dtype=np.float64))
    window, hop = round(WINDOW_S * rate_hz), round(HOP_S * rate_hz)
    padded = np.pad(samples, (window // 2, window))
    pieces = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop][: len(samples) // hop + 1]
    shape = np.hanning(window)
    power = np.square(np.abs(np.fft.rfft(pieces * shape, 2 * window)) / (shape.sum() / 2))
    bins_hz = np.fft.rfftfreq(2 * window, 1 / rate_hz)
    high_hz = min(HIGH_HZ, rate_hz / 2)
    rows_hz = np.geomspace(LOW_HZ, high_hz, NUM_ROWS * _FINER)
    right = np.clip(np.searchsorted(bins_hz, rows_hz), 1, len(bins_hz) - 1)
    share = (rows_hz - bins_hz[right - 1]) / (bins_hz[right] - bins_hz[right - 1])
    at_rows = (1 - share) * power[:, right - 1] + share * power[:, right]
    loudest = at_rows.reshape(len(at_rows), NUM_ROWS, _FINER).max(axis=2)
    return Spectrogram(10 * np.log10(np.maximum(loudest.T, 1e-12)), LOW_HZ, high_hz, len(samples) / rate_hz)


def shared_top_db(pictures: Sequence[Spectrogram]) -> float:
    """The level drawn brightest in all of them, so that equal colours mean equal levels."""
    return max(SILENCE_DB, *(float(picture.level_db.max()) for picture in pictures))


def draw(
    path: Path, picture: Spectrogram, top_db: float, duration_s: float, onsets_s: Sequence[float], other_onsets_s: Sequence[float] = ()
) -> None:
    """Write one spectrogram as a PNG, on a dark ground that suits light and dark pages.

    Args:
        path: the file to write.
        picture: what to draw.
        top_db: the level of the brightest colour; 70 dB below it is the darkest.
        duration_s: the length of the time axis, the same for sounds that are compared.
        onsets_s: marked by triangles at the top.
        other_onsets_s: those of the sound to compare with, marked by dotted lines.
    """
    figure = Figure(figsize=_SIZE_IN, dpi=_DPI, facecolor=_GROUND, layout="constrained")
    axes = figure.add_subplot(facecolor=_GROUND)
    edges_s = np.linspace(0, picture.duration_s, picture.level_db.shape[1] + 1)
    edges_hz = np.geomspace(picture.low_hz, picture.high_hz, picture.level_db.shape[0] + 1)
    axes.pcolormesh(edges_s, edges_hz, picture.level_db, cmap="magma", vmin=top_db - RANGE_DB, vmax=top_db, rasterized=True)
    axes.set_yscale("log")
    axes.set(xlim=(0, duration_s), ylim=(picture.low_hz, picture.high_hz))
    axes.set_yticks([hz for hz in _MARKED_HZ if hz < picture.high_hz], labels=[f"{hz:g} Hz" for hz in _MARKED_HZ if hz < picture.high_hz])
    axes.minorticks_off()
    axes.tick_params(colors=_TEXT, labelsize=8, length=2)
    axes.xaxis.set_major_formatter(lambda second, _: f"{second:g} s")
    for spine in axes.spines.values():
        spine.set_visible(False)
    for onset_s in other_onsets_s:
        axes.axvline(onset_s, color=_OTHER, linewidth=0.9, linestyle=(0, (1, 3)), alpha=0.75)
    axes.plot(onsets_s, [0.985] * len(onsets_s), "v", color=_OWN, markersize=5, transform=axes.get_xaxis_transform(), clip_on=False)
    FigureCanvasAgg(figure).print_png(path, metadata={"Software": None})
