"""A sound as one PNG: its waveform above its spectrogram, with onset marks, on a dark ground that suits any page.

Pixels are numbers of a palette and are written as such: no figure is laid out, so a picture takes milliseconds. What is
written beside it (seconds, frequencies) is the page's text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from mmaudio.report.spectrograms import NUM_ROWS, Levels, envelope, shared_top_db, spectrogram

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
