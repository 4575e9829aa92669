"""Video files to frames at the two rates the encoders want, and to the sound that belongs to them.

Everything is on the container's clock: frame times and the sound's first sample count from time 0, so a track that
starts late stays late. Frames stay uint8 (frames, 3, height, width), and only those that are used are converted.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mmaudio.base.specs import CLIP_FPS, MIN_DURATION_S, SYNC_FPS, AudioSpec
from mmaudio.media.audio import AUDIO_SUFFIXES, MediaError, Sound, fit_length, normalise_peak, read_audio, resample
from mmaudio.media.frames import FramePicker
from mmaudio.media.transforms import scene_frame, sync_frame

QUARTER_TURN_DEG = 90


@dataclass(frozen=True)
class VideoMedia:
    """Frames of both streams, (clip frames, 3, 384, 384) and (sync frames, 3, 224, 224) uint8, and the wave (samples,)."""

    clip_u8: Tensor
    sync_u8: Tensor
    wave: Tensor | None


@dataclass(frozen=True)
class SilentVideo:
    """Frames of both streams, and the seconds they cover: what was asked for, or less for a shorter video."""

    clip_u8: Tensor
    sync_u8: Tensor
    duration_s: float


@contextmanager
def _opened(path: Path) -> "Iterator[av.container.InputContainer]":
    if not path.is_file():
        raise MediaError(f"no file at {path}")
    if path.stat().st_size == 0:
        raise MediaError("the file is empty (0 bytes)")
    try:
        with av.open(str(path)) as container:
            yield container
    except av.FFmpegError as error:
        raise MediaError(f"not readable as video: {error.strerror}") from None


def _frames(container: "av.container.InputContainer") -> "Iterator[tuple[Fraction, av.VideoFrame]]":
    """Frames from time 0 on, with their times in seconds."""
    if not container.streams.video:
        raise MediaError("the file has no picture")
    stream = container.streams.video[0]
    stream.thread_type = "NONE"  # files are read in parallel; threads inside one only cost
    for frame in container.decode(stream):
        if frame.pts is None or frame.time_base is None:
            raise MediaError("a frame has no time stamp")
        time_s = frame.pts * frame.time_base
        if time_s >= 0:
            yield time_s, frame


def _pixels(frame: "av.VideoFrame") -> Tensor:
    """(3, height, width) uint8 RGB, turned upright."""
    rgb = frame.to_ndarray(format="rgb24", channel_last=True)
    upright = np.rot90(rgb, frame.rotation // QUARTER_TURN_DEG) if frame.rotation % 360 else rgb
    return torch.from_numpy(np.ascontiguousarray(upright)).permute(2, 0, 1)


@dataclass(frozen=True)
class _Streams:
    clip: FramePicker
    sync: FramePicker
    clip_frames: list[Tensor]
    sync_frames: list[Tensor]


def _read_frames(container: "av.container.InputContainer", duration_s: float) -> _Streams:
    """Fill both streams in one pass, stopping as soon as both are full; the last frame is held for one output at most."""
    streams = _Streams(FramePicker(CLIP_FPS, int(duration_s * CLIP_FPS)), FramePicker(SYNC_FPS, int(duration_s * SYNC_FPS)), [], [])
    for time_s, frame in _frames(container):
        num_clip, num_sync = streams.clip.take(time_s), streams.sync.take(time_s)
        if num_clip or num_sync:
            pixels = _pixels(frame)
            streams.clip_frames.extend([scene_frame(pixels)] * num_clip if num_clip else [])
            streams.sync_frames.extend([sync_frame(pixels)] * num_sync if num_sync else [])
        if streams.clip.is_done and streams.sync.is_done:
            return streams
    streams.clip_frames.extend(streams.clip_frames[-1:] * streams.clip.hold())
    streams.sync_frames.extend(streams.sync_frames[-1:] * streams.sync.hold())
    return streams


def _read_sound(container: "av.container.InputContainer") -> Sound:
    """The whole first sound track, channels averaged, from time 0 on."""
    if not container.streams.audio:
        raise MediaError("the file has no sound")
    stream = container.streams.audio[0]
    to_float = av.AudioResampler(format="fltp")
    blocks: list[npt.NDArray[np.float32]] = []
    start_s, rate_hz = None, 0
    for frame in container.decode(stream):
        if start_s is None:
            start_s = float(frame.time or 0.0)
            rate_hz = frame.sample_rate
        blocks.extend(block.to_ndarray().mean(axis=0, dtype=np.float32) for block in to_float.resample(frame))
    if start_s is None or not blocks:
        raise MediaError("the sound track is empty")
    wave = np.concatenate(blocks)
    late = round(start_s * rate_hz)
    wave = np.pad(wave, (late, 0)) if late > 0 else wave[-late:]
    return Sound(wave, rate_hz, float(np.abs(wave).max()) if len(wave) else 0.0)


def read_sound_track(path: Path) -> Sound:
    """The sound of a video, mono, whole. Raises: MediaError."""
    with _opened(path) as container:
        return _read_sound(container)


def read_sound(path: Path) -> Sound:
    """The sound of an audio file, or of a video file. Raises: MediaError."""
    return read_audio(path) if path.suffix.lower() in AUDIO_SUFFIXES else read_sound_track(path)


def read_video(path: Path, spec: AudioSpec, *, with_sound: bool, normalise: bool = True) -> VideoMedia:
    """A training clip: the first `spec.duration_s` of a video, by data.md section 4.

    With `normalise` the sound is brought to one level by the peak of its whole track; it is resampled before it is cut.
    Raises: MediaError, in plain words, for a file that is missing, damaged, too short, silent, or without picture or sound.
    """
    with _opened(path) as container:
        streams = _read_frames(container, spec.duration_s)
    streams.clip.check("scene")
    streams.sync.check("synchronisation")
    wave = _training_wave(read_sound_track(path), spec, normalise) if with_sound else None
    return VideoMedia(torch.stack(streams.clip_frames), torch.stack(streams.sync_frames), wave)


def _training_wave(sound: Sound, spec: AudioSpec, normalise: bool) -> Tensor:
    wave = normalise_peak(sound.wave, sound.file_peak) if normalise else sound.wave
    return fit_length(resample(wave, sound.rate_hz, spec.rate_hz), spec)


def read_silent_video(path: Path, duration_s: float) -> SilentVideo:
    """The picture alone, for generation: a shorter video lowers the duration to what it covers (data.md section 6.2).

    Raises: MediaError for a file that is missing, damaged, without picture, or shorter than one sync segment.
    """
    with _opened(path) as container:
        streams = _read_frames(container, duration_s)
    covered_s = min([Fraction(duration_s), *(Fraction(p.filled, p.rate_hz) for p in (streams.clip, streams.sync) if not p.is_done)])
    if covered_s < MIN_DURATION_S:
        raise MediaError(f"too short: {float(covered_s):.2f} s of picture, want at least {MIN_DURATION_S} s")
    num_clip, num_sync = int(covered_s * CLIP_FPS), int(covered_s * SYNC_FPS)
    return SilentVideo(torch.stack(streams.clip_frames[:num_clip]), torch.stack(streams.sync_frames[:num_sync]), float(covered_s))
