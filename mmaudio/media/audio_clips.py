"""Recordings to the clips that training takes, by data.md section 3. Waves are float32 (samples,); rates are in hertz."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from torch import Tensor

from mmaudio.base.specs import PEAK_LEVEL, SILENCE_PEAK, AudioSpec
from mmaudio.media.audio import MediaError, mono_blocks, opened_sound, peak_of
from mmaudio.media.resampling import FILTER_WIDTH, resample

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a recording, in samples at its own rate: [start, end), or to the end of the file.

    The last `padded_samples` of them lie after the file's end: they are silence. Raises: ValueError for one without sound.
    """

    start_sample: int
    end_sample: int | None = None
    padded_samples: int = 0

    def __post_init__(self) -> None:
        sound_end = None if self.end_sample is None else self.end_sample - self.padded_samples
        if self.start_sample < 0 or self.padded_samples < 0 or (sound_end is not None and sound_end <= self.start_sample):
            raise ValueError(f"{self} has no sound; want 0 <= start < end - padded")


class _Cut:
    """What a span needs of a file that passes by block by block: its first samples, and the largest of all of them."""

    def __init__(self, span: Span, file_samples: int, most_samples: int) -> None:
        self.start = span.start_sample
        self.stop = file_samples if span.end_sample is None else span.end_sample - span.padded_samples
        if self.start >= file_samples or self.stop > file_samples:
            wanted = max(self.start, self.stop)
            raise MediaError(f"the file has {file_samples} samples and the clips table wants up to {wanted}: it changed since it was cut")
        self.wave = np.zeros(min(self.stop + span.padded_samples - self.start, most_samples), np.float32)
        self.peak = 0.0

    def take(self, block: npt.NDArray[np.float32], block_start: int) -> None:
        mine = block[max(self.start - block_start, 0) : max(self.stop - block_start, 0)]
        at = max(block_start - self.start, 0)
        kept = mine[: max(len(self.wave) - at, 0)]
        self.wave[at : at + len(kept)] = kept
        self.peak = max(self.peak, peak_of(mine))

    def clip(self, rate_hz: int, file_peak: float, spec: AudioSpec) -> Tensor:
        _refuse_silence(self.peak, " of the clip")
        return _clip_of(self.wave, rate_hz, file_peak, spec)


def read_training_clips(path: Path, spans: Sequence[Span], spec: AudioSpec) -> list[Tensor | MediaError]:
    """Training clips of one recording, each (spec.num_samples,) float32 at the spec's rate.

    The file passes by once, in blocks. The level is set by the peak of all of it, the cuts are made at its own rate,
    and only a cut, with its padding, is resampled.

    Returns: for each span, in their order, the clip, or why there is none: it is silent, too short, or not in the file.
    Raises: MediaError for a file that cannot be read, or is silent as a whole.
    """
    file_peak, num_passed = 0.0, 0
    with opened_sound(path) as file:
        rate_hz, most_samples = file.samplerate, _samples_needed(file.samplerate, spec)
        cuts = [_or_reason(partial(_Cut, span, file.frames, most_samples)) for span in spans]
        for block in mono_blocks(file):
            for cut in cuts:
                if isinstance(cut, _Cut):
                    cut.take(block, num_passed)
            file_peak, num_passed = max(file_peak, peak_of(block)), num_passed + len(block)
    _refuse_silence(file_peak)
    return [_or_reason(partial(cut.clip, rate_hz, file_peak, spec)) if isinstance(cut, _Cut) else cut for cut in cuts]


def _samples_needed(rate_hz: int, spec: AudioSpec) -> int:
    """More samples of a recording than can reach a clip: a second, and the resampler's filter, beyond it."""
    return -(-spec.num_samples * rate_hz // spec.rate_hz) + rate_hz + 2 * FILTER_WIDTH


def _or_reason(make: Callable[[], T]) -> T | MediaError:
    """What `make` makes, or the MediaError it raises, without its traceback, which would hold on to the samples."""
    try:
        return make()
    except MediaError as error:
        return error.with_traceback(None)


def _clip_of(cut: npt.NDArray[np.float32], rate_hz: int, file_peak: float, spec: AudioSpec) -> Tensor:
    return fit_length(resample(normalise_peak(cut, file_peak), rate_hz, spec.rate_hz), spec)


def _refuse_silence(peak: float, of: str = "") -> None:
    if peak < SILENCE_PEAK:
        raise MediaError(f"silent: the largest sample{of} is {peak:.1e}")


def normalise_peak(wave: npt.NDArray[np.float32], peak: float) -> npt.NDArray[np.float32]:
    """Bring a wave to the training level, given the peak of the whole file. Raises: MediaError for a silent file."""
    _refuse_silence(peak)
    return wave / np.float32(peak) * np.float32(PEAK_LEVEL)


def fit_length(wave: Tensor, spec: AudioSpec) -> Tensor:
    """The first samples a clip of this spec has. Raises: MediaError if there are fewer."""
    if len(wave) < spec.num_samples:
        found_s, want_s = len(wave) / spec.rate_hz, spec.num_samples / spec.rate_hz
        raise MediaError(f"too short: {found_s:.3f} s of sound, want {want_s:.3f} s")
    return wave[: spec.num_samples]
