"""Audio files: header, decoding, averaging to mono, writing."""

import errno
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from mmaudio.files.atomic import atomic_path

# ---- Opening: what headers say, and what files hold, block by block and averaged over channels

SHORTEST_FILE_BYTES = 16
UNKNOWN_SAMPLES = 1 << 62  # libsndfile tells a header without a length as a number beyond this
HIGHEST_RATE_HZ = 1 << 20  # no recording has more; resampling a wild rate that a damaged header tells takes minutes
BLOCK_SAMPLES = 1 << 20
SHORTEST_FLAC_FRAME_BYTES = 10  # RFC 9639, section 9: a header of 6, a constant subframe of 2, and a checksum of 2
_HEAD_BYTES = 1 << 14  # most headers are shorter
_READ_WITHOUT_WAITING = os.O_RDONLY | os.O_NONBLOCK  # a pipe nobody writes to is opened, and then refused


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


@contextmanager
def opened_sound(path: Path) -> Iterator[soundfile.SoundFile]:
    """An audio file, open for the block. Raises: MediaError for one that is missing, not audio, or of unknown length."""
    try:
        handle = os.open(path, _READ_WITHOUT_WAITING)
    except (FileNotFoundError, NotADirectoryError):
        raise MediaError(f"no file at {path}") from None
    except OSError as error:
        if error.errno == errno.ENXIO:  # of a socket
            raise no_regular_file(path) from None
        raise MediaError(f"cannot be opened: {error.strerror}") from None
    try:
        most_samples = _check_head(path, handle)
        try:
            file = soundfile.SoundFile(handle, closefd=False)
        except soundfile.LibsndfileError as error:
            raise MediaError(f"not readable as audio: {error.error_string.rstrip('.')}") from None
        with file:
            if file.frames > UNKNOWN_SAMPLES:
                raise MediaError("its header leaves out the length, as of a file written to a pipe; encode it again to a file")
            if most_samples is not None and file.frames > most_samples:
                promise = f"its header promises {file.frames} samples, more than its {os.fstat(handle).st_size} bytes can hold"
                raise MediaError(f"damaged, or cut off: {promise}")
            check_rate(file.samplerate)
            yield file
    finally:
        os.close(handle)


def check_rate(rate_hz: int) -> None:
    """Raises: MediaError for a rate that only a damaged header tells."""
    if rate_hz > HIGHEST_RATE_HZ:
        raise MediaError(f"its rate is {rate_hz} Hz, which is none to be believed")


def no_regular_file(path: Path) -> MediaError:
    """What is wrong with a file that would be waited for instead of read."""
    return MediaError(f"no file at {path} but a pipe, a socket or a device: not a regular file")


def _check_head(path: Path, handle: int) -> int | None:
    """Refuse what cannot be audio, and fetch the header: soundfile opens one file at a time, and would wait for storage meanwhile.

    Returns: the most samples that a FLAC file of this length can hold, None for others.
    """
    try:
        status = os.fstat(handle)
        if S_ISDIR(status.st_mode):
            raise MediaError(f"no file at {path}")
        if not S_ISREG(status.st_mode):
            raise no_regular_file(path)
        if status.st_size < SHORTEST_FILE_BYTES:
            raise MediaError("the file is empty (0 bytes)" if not status.st_size else f"the file is empty but for {status.st_size} bytes")
        head = os.pread(handle, _HEAD_BYTES, 0)
    except OSError as error:
        raise MediaError(f"cannot be read: {error.strerror}") from None
    if not head.startswith(b"fLaC") or len(head) < 12:
        return None
    return status.st_size // SHORTEST_FLAC_FRAME_BYTES * int.from_bytes(head[10:12])  # the largest frame, in samples


def audio_header(path: Path) -> tuple[int, int]:
    """(samples per channel, rate) from the header alone. Raises: MediaError for a file that is not audio."""
    with opened_sound(path) as file:
        return file.frames, file.samplerate


def audio_comment(path: Path) -> str:
    """The comment that `write_flac` was given; "" where there is none. Raises: MediaError for a file that is not audio."""
    with opened_sound(path) as file:
        return str(file.comment)


def average_channels(channels: npt.NDArray[Any], axis: int) -> npt.NDArray[np.float32]:
    """The mean over channels. Numbers too large to add become infinite, which is for the caller to refuse."""
    planes = np.moveaxis(channels, axis, 0)
    with np.errstate(over="ignore", invalid="ignore"):
        # Channel by channel: a mean over so short an axis takes NumPy ten times as long.
        return np.asarray(reduce(np.add, planes[1:], planes[0].astype(np.float32)) / np.float32(len(planes)), dtype=np.float32)


def mono_blocks(file: soundfile.SoundFile) -> Iterator[npt.NDArray[np.float32]]:
    """An open file, averaged over channels, in pieces (at most BLOCK_SAMPLES,).

    Raises: MediaError for damage, an end before the promised one, and numbers that are not finite.
    """
    found = 0
    while found < file.frames:
        try:
            channels = file.read(BLOCK_SAMPLES, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise MediaError(f"the audio is damaged: {error.error_string.rstrip('.')}") from None
        if not len(channels):
            raise MediaError(f"the file is truncated: {found} of {file.frames} samples")
        found += len(channels)
        mono = average_channels(channels, axis=1)
        if not np.isfinite(mono).all():
            raise MediaError("the audio holds samples that are not finite numbers")
        yield mono


# ---- Files read whole, and written


def peak_of(wave: npt.NDArray[np.float32]) -> float:
    """The largest absolute sample; 0 for none."""
    return float(max(wave.max(initial=0.0), -wave.min(initial=0.0)))


def read_audio(path: Path, start: int = 0, stop: int | None = None) -> Sound:
    """Read a file whole, average its channels, and cut samples [start, stop) at its own rate.

    Raises: MediaError for a file that is missing, not audio, torn, or holds numbers that are not finite.
    """
    with opened_sound(path) as file:
        blocks, rate_hz = list(mono_blocks(file)), file.samplerate
    mono = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
    return Sound(mono[start:stop], rate_hz, peak_of(mono))


def _write(path: Path, wave: npt.ArrayLike, rate_hz: int, kind: str, comment: str = "") -> None:
    clipped = np.clip(np.asarray(wave, dtype=np.float32), -1.0, 1.0)
    if not np.isfinite(clipped).all():
        raise ValueError(f"the wave for {path} holds values that are not finite numbers")
    encoded = io.BytesIO()  # of a full disk, libsndfile would say that its decoder has a problem
    with soundfile.SoundFile(encoded, "w", rate_hz, channels=1, subtype="PCM_16", format=kind) as file:
        if comment:
            file.comment = comment
        file.write(clipped)
    with atomic_path(path) as temporary:
        temporary.write_bytes(encoded.getbuffer())


def write_flac(path: Path, wave: npt.ArrayLike, rate_hz: int, comment: str = "") -> None:
    """Write (samples,) as 16-bit FLAC, clipped to [−1, 1], atomically; `comment` goes into the file's tags."""
    _write(path, wave, rate_hz, "FLAC", comment)


def write_wav(path: Path, wave: npt.ArrayLike, rate_hz: int) -> None:
    """Write (samples,) as 16-bit WAV, clipped to [−1, 1], atomically."""
    _write(path, wave, rate_hz, "WAV")
