"""Audio files to mono waves and back. Waves are float32 arrays (samples,); rates are in hertz."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
from torch import Tensor

from mmaudio.base.files import atomic_path
from mmaudio.base.specs import PEAK_LEVEL, SILENCE_PEAK, AudioSpec
from mmaudio.media.resampling import resample as resample  # part of what this module offers

AUDIO_SUFFIXES = (".flac", ".wav")  # in the order in which a name is looked up
SHORTEST_FILE_BYTES = 16
UNKNOWN_SAMPLES = 1 << 62  # libsndfile tells a header without a length as a number beyond this
BLOCK_SAMPLES = 1 << 20


class MediaError(ValueError):
    """A file that cannot be used, with the reason in plain words."""


@dataclass(frozen=True)
class Sound:
    """A mono wave (samples,) float32 with its rate, and the largest absolute sample of the whole file it comes from."""

    wave: npt.NDArray[np.float32]
    rate_hz: int
    file_peak: float

    @property
    def duration_s(self) -> float:
        return len(self.wave) / self.rate_hz


def _opened(path: Path) -> soundfile.SoundFile:
    if not path.is_file():
        raise MediaError(f"no file at {path}")
    if path.stat().st_size < SHORTEST_FILE_BYTES:
        raise MediaError(f"the file is empty ({path.stat().st_size} bytes)")
    try:
        file = soundfile.SoundFile(path)
    except soundfile.LibsndfileError as error:
        raise MediaError(f"not readable as audio: {error.error_string.rstrip('.')}") from None
    if file.frames > UNKNOWN_SAMPLES:
        file.close()
        raise MediaError("its header leaves out the length, as of a file written to a pipe; encode it again to a file")
    return file


def audio_header(path: Path) -> tuple[int, int]:
    """(samples per channel, rate) from the header alone. Raises: MediaError for a file that is not audio."""
    with _opened(path) as file:
        return file.frames, file.samplerate


def average_channels(channels: npt.NDArray[Any], axis: int) -> npt.NDArray[np.float32]:
    """The mean over channels. Numbers too large to add become infinite, which is for the caller to refuse."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(channels.mean(axis=axis, dtype=np.float32))


def _mono_blocks(file: soundfile.SoundFile) -> Iterator[npt.NDArray[np.float32]]:
    """An open file, averaged over channels, in pieces. Raises: MediaError for damage, also for an end before the promised one."""
    found = 0
    while found < file.frames:
        try:
            channels = file.read(BLOCK_SAMPLES, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise MediaError(f"the audio is damaged: {error.error_string.rstrip('.')}") from None
        if not len(channels):
            raise MediaError(f"the file is truncated: {found} of {file.frames} samples")
        found += len(channels)
        yield average_channels(channels, axis=1)


def read_audio(path: Path, start: int = 0, stop: int | None = None) -> Sound:
    """Read a file whole, average its channels, and cut samples [start, stop) at its own rate.

    Raises: MediaError for a file that is missing, not audio, torn, or holds numbers that are not finite.
    """
    with _opened(path) as file:
        blocks, rate_hz = list(_mono_blocks(file)), file.samplerate
    mono = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
    if not np.isfinite(mono).all():
        raise MediaError("the audio holds samples that are not finite numbers")
    return Sound(mono[start:stop], rate_hz, float(np.abs(mono).max(initial=0.0)))


def normalise_peak(wave: npt.NDArray[np.float32], peak: float) -> npt.NDArray[np.float32]:
    """Bring a wave to the training level, given the peak of the whole file. Raises: MediaError for a silent file."""
    if peak < SILENCE_PEAK:
        raise MediaError(f"silent: the largest sample is {peak:.1e}")
    return wave / np.float32(peak) * np.float32(PEAK_LEVEL)


def fit_length(wave: Tensor, spec: AudioSpec) -> Tensor:
    """The first samples a clip of this spec has. Raises: MediaError if there are fewer."""
    if len(wave) < spec.num_samples:
        found_s, want_s = len(wave) / spec.rate_hz, spec.num_samples / spec.rate_hz
        raise MediaError(f"too short: {found_s:.3f} s of sound, want {want_s:.3f} s")
    return wave[: spec.num_samples]


def read_training_clip(path: Path, start: int, end: int | None, spec: AudioSpec) -> Tensor:
    """One training clip of a recording: (spec.num_samples,) float32 at the spec's rate, by data.md section 3.

    The level is set by the peak of the whole file, the cut is made at the file's rate, and only the cut is resampled.
    Raises: MediaError for a file that cannot be read, is silent, or is too short.
    """
    return cut_training_clip(read_audio(path), start, end, spec)


def cut_training_clip(sound: Sound, start: int, end: int | None, spec: AudioSpec) -> Tensor:
    """As `read_training_clip`, from a recording that was read whole: one reading serves all its clips."""
    cut = normalise_peak(sound.wave[start:end], sound.file_peak)
    return fit_length(resample(cut, sound.rate_hz, spec.rate_hz), spec)


def _write(path: Path, wave: npt.ArrayLike, rate_hz: int, kind: str) -> None:
    clipped = np.clip(np.asarray(wave, dtype=np.float32), -1.0, 1.0)
    if not np.isfinite(clipped).all():
        raise ValueError(f"the wave for {path} holds values that are not finite numbers")
    with atomic_path(path) as temporary:
        soundfile.write(temporary, clipped, rate_hz, format=kind, subtype="PCM_16")


def write_flac(path: Path, wave: npt.ArrayLike, rate_hz: int) -> None:
    """Write (samples,) as 16-bit FLAC, clipped to [−1, 1], atomically."""
    _write(path, wave, rate_hz, "FLAC")


def write_wav(path: Path, wave: npt.ArrayLike, rate_hz: int) -> None:
    """Write (samples,) as 16-bit WAV, clipped to [−1, 1], atomically."""
    _write(path, wave, rate_hz, "WAV")
