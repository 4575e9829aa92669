"""When things are heard, and how well two sounds agree about it.

Onsets are peaks of the half-wave rectified rise of a log-compressed mel spectrogram (spectral flux: Bello et al. 2005,
"A tutorial on onset detection in music signals", sections III and IV), each frame compared with one some frames before,
as Böck and Widmer 2013, "Maximum filter vibrato suppression for onset detection", do; the lag here is long enough for
attacks that a phase-free vocoder has smeared. Their maximum over neighbouring bands is left out: it costs the soft
attacks of pure tones. The constants were set on synthetic impacts, plain and through phase retrieval with added noise,
never on a model's output.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter1d
from scipy.optimize import linear_sum_assignment
from scipy.signal import find_peaks

from mmaudio.metrics.spectrum import Analysis, Floats, band_power

_ANALYSIS = Analysis(window_s=0.048, hop_s=0.005, num_bands=40, low_hz=60.0, high_hz=8000.0)
_LAG_FRAMES = 7  # 35 ms: as long as a smeared attack takes to rise
_RELATIVE_FLOOR_DB = -45.0  # below the loudest band of the sound; musical noise lies around it
_ABSOLUTE_FLOOR_DB = -60.0  # below full scale; nothing under it is an event
_MIN_RISE_DB = 0.7  # mean over the bands …
_MIN_RELATIVE_RISE = 0.2  # … and of the sharpest rise of the sound
_MIN_PROMINENCE = 0.7  # of the least rise, so that a ripple on a peak's flank does not count twice
_ABOVE_AVERAGE, _AVERAGE_S = 2.0, 0.205  # a peak stands out from the rise around it
_MIN_GAP_S = 0.05
_DETECTION_LEAD_S = 0.0155  # by which the middle of the rise comes before a sudden attack; measured on synthetic impacts


@dataclass(frozen=True)
class OnsetScore:
    """Agreement of found with true onsets. `mean_offset_s` > 0: found late; None where nothing matched."""

    f1: float
    precision: float
    recall: float
    mean_offset_s: float | None
    num_matched: int


def onset_rise(wave: npt.ArrayLike, rate_hz: int) -> Floats:
    """The detection function: how much the sound rose over the last 35 ms, dB averaged over bands, one value per 5 ms.

    Levels are compressed as log(1 + amplitude / floor), so that what happens below the floor hardly moves it.
    """
    amplitude = np.sqrt(band_power(wave, rate_hz, _ANALYSIS))
    rise = np.zeros(len(amplitude))
    if len(amplitude) > _LAG_FRAMES:
        floor = max(amplitude.max() * 10 ** (_RELATIVE_FLOOR_DB / 20), 10 ** (_ABSOLUTE_FLOOR_DB / 20))
        level_db = 20 * np.log10(1 + amplitude / floor)
        rise[_LAG_FRAMES:] = np.maximum(0, level_db[_LAG_FRAMES:] - level_db[:-_LAG_FRAMES]).mean(axis=1)
        rise[:_LAG_FRAMES] = rise[_LAG_FRAMES]  # level, so that the beginning of the wave is no peak
    return rise


def onset_times(wave: npt.ArrayLike, rate_hz: int) -> Floats:
    """When something starts to sound.

    Args:
        wave: (samples,), full scale is 1; bands below -60 dB of it count as silence.
        rate_hz: its sampling rate, at least a few kilohertz.
    Returns: rising times in seconds, at least 0.05 s apart. What already sounds when the wave begins is no onset, and
        the first 0.03 s give none.
    Raises: ValueError for another shape or samples that are not finite.
    """
    rise = onset_rise(wave, rate_hz)
    if not len(rise):
        return np.zeros(0)
    hop_s = max(1, round(_ANALYSIS.hop_s * rate_hz)) / rate_hz
    around = uniform_filter1d(rise, round(_AVERAGE_S / hop_s))
    least = max(_MIN_RISE_DB, _MIN_RELATIVE_RISE * rise.max())
    peaks, _ = find_peaks(rise, height=least, distance=round(_MIN_GAP_S / hop_s), prominence=_MIN_PROMINENCE * least)
    peaks = peaks[rise[peaks] >= _ABOVE_AVERAGE * around[peaks]]
    middle_of_rise = (peaks - _LAG_FRAMES / 2) * hop_s
    return np.maximum(0.0, middle_of_rise + _DETECTION_LEAD_S)


def onset_f1(found: npt.ArrayLike, truth: npt.ArrayLike, tolerance_s: float = 0.1) -> OnsetScore:
    """Score found against true onset times.

    Each onset matches at most one of the other side, within the tolerance (inclusive); among the matchings with most
    pairs the one with the least total offset is taken (Hungarian method).

    Args:
        found: times in seconds, any order.
        truth: likewise.
        tolerance_s: largest distance of a pair.
    Returns: all 1 if both are empty (silence was rightly left silent), all 0 if only one is.
    """
    found_f, truth_t = np.asarray(found, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if not len(found_f) and not len(truth_t):
        return OnsetScore(1.0, 1.0, 1.0, None, 0)
    if not len(found_f) or not len(truth_t):
        return OnsetScore(0.0, 0.0, 0.0, None, 0)
    offset_ft = found_f[:, None] - truth_t[None, :]
    near_ft = np.abs(offset_ft) <= tolerance_s + 1e-9  # times are decimal fractions: 0.3 - 0.2 is more than 0.1
    out_of_reach = tolerance_s * (len(found_f) + len(truth_t)) + 1.0  # dearer than any full matching within reach
    pairs = linear_sum_assignment(np.where(near_ft, np.abs(offset_ft), out_of_reach))
    offsets = offset_ft[pairs][near_ft[pairs]]
    num = len(offsets)
    mean_offset_s = float(offsets.mean()) if num else None
    return OnsetScore(2 * num / (len(found_f) + len(truth_t)), num / len(found_f), num / len(truth_t), mean_offset_s, num)
