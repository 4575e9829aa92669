"""Audio files to mono waves, to the clips that training takes, and back. Waves are float32 (samples,); rates are in hertz."""

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from mmaudio.base.files import atomic_path
from mmaudio.media.recordings import Span, fit_length, normalise_peak, read_training_clips
from mmaudio.media.resampling import resample
from mmaudio.media.sound_files import MediaError, Sound, audio_comment, audio_header, average_channels, read_audio

__all__ = [  # what this module offers beside writing
    "MediaError",
    "Sound",
    "Span",
    "audio_comment",
    "audio_header",
    "average_channels",
    "fit_length",
    "normalise_peak",
    "read_audio",
    "read_training_clips",
    "resample",
    "write_flac",
    "write_wav",
]


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
