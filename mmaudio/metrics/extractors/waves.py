"""Sounds as extractors take them: the start of a file's mono wave at an extractor's rate, by torchaudio's default resampler."""

from functools import lru_cache
from math import ceil, gcd
from pathlib import Path

import torch
import torchaudio.transforms
from torch import Tensor

from mmaudio.media.audio import MediaError, Sound
from mmaudio.media.video import read_sound

MARGIN_S = 0.1  # longer than the resampler's filter reaches, so that where a sound is cut is not heard
LARGEST_TABLE = 1 << 23  # filter taps of a resampler; rates without a common divisor would need gigabytes


@lru_cache(maxsize=32)
def _resampler(num_in: int, num_out: int) -> torchaudio.transforms.Resample:
    return torchaudio.transforms.Resample(num_in, num_out)


def resample_default(wave: Tensor, from_hz: int, to_hz: int) -> Tensor:
    """(samples,) at one rate → (ceil(samples · to / from),) at another, as published metrics do (data.md section 5, the last line).

    Raises: MediaError for rates whose filter does not fit in memory.
    """
    common = gcd(from_hz, to_hz)
    num_in, num_out = from_hz // common, to_hz // common
    if num_in * num_out > LARGEST_TABLE:
        raise MediaError(f"its rate of {from_hz} Hz has no convenient ratio to {to_hz} Hz; convert it to a usual rate first")
    return wave if num_in == num_out else _resampler(num_in, num_out)(wave)


def _read_whole(path: Path) -> Sound:
    sound = read_sound(path)
    if not len(sound.wave):
        raise MediaError("it holds no sound")
    return sound


def first_samples(sound: Sound, rate_hz: int, duration_s: float, *, centred: bool) -> Tensor:
    """The first int(rate · duration) samples at a rate: (samples,) float32, fewer where the sound is shorter.

    Args:
        centred: subtract the mean over the whole sound first.

    Raises: MediaError for a sound too loud to be computed with, and as `resample_default`.
    """
    wave = torch.from_numpy(sound.wave)
    if centred:
        wave = wave - wave.mean()
    kept = wave[: ceil((duration_s + MARGIN_S) * sound.rate_hz)]
    samples = resample_default(kept, sound.rate_hz, rate_hz)[: int(rate_hz * duration_s)]
    if not bool(torch.isfinite(samples).all()):
        raise MediaError("its samples are too large to be computed with")
    return samples


def read_centred(path: Path, rate_hz: int, duration_s: float) -> Tensor:
    """The first seconds of an audio or video file: channels averaged, the mean over time subtracted, resampled, cut.

    Never padded. Raises: MediaError for a file that cannot be read or holds no sound.
    Source: av_benchmark.md section 6, the common loader.
    """
    return first_samples(_read_whole(path), rate_hz, duration_s, centred=True)


def read_exactly(path: Path, rate_hz: int, duration_s: float) -> Tensor:
    """Exactly int(rate · duration) samples of an audio or video file: channels averaged, resampled, cut; the mean stays.

    Raises: MediaError as `read_centred`, and for a shorter sound.
    """
    wave = first_samples(_read_whole(path), rate_hz, duration_s, centred=False)
    if len(wave) < int(rate_hz * duration_s):
        raise MediaError(f"too short: {len(wave) / rate_hz:.2f} s of sound, want {duration_s:g} s")
    return wave
