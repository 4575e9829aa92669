"""Video files to frames at the two rates the encoders want, and to the sound that belongs to them.

Everything is on the file's own clock: frame times and the sound's first sample count from time 0, so a track that
starts late stays late. Frames stay uint8 (frames, 3, height, width), and only those that are used are converted.
"""

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from math import inf, nextafter
from pathlib import Path
from typing import TypeVar, cast

import av
import av.stream
import numpy as np
import torch
from av.buffer import Buffer
from torch import Tensor

from mmaudio.base.specs import CLIP_FPS, MIN_DURATION_S, SYNC_FPS, AudioSpec
from mmaudio.media.audio import AUDIO_SUFFIXES, MediaError, Sound, fit_length, normalise_peak, read_audio, resample
from mmaudio.media.frames import FramePicker, covered_s, exact_seconds
from mmaudio.media.soundtrack import TrackReader
from mmaudio.media.transforms import scene_frame, sync_frame

AnyStream = TypeVar("AnyStream", bound=av.stream.Stream)
Item = TypeVar("Item")
QUARTER_TURN_DEG = 90
FORMATS = "mov,matroska,avi,mpegts,mpeg,flv,asf,mxf,ogg,ivf,gif,mp3,aac,flac,wav"  # no lists of other files, which may name themselves
FORMATS_WITH_ANY_ORIGIN = ("mpegts", "mpeg")  # broadcast formats: their clock starts anywhere
RESAMPLER_MARGIN_S = 0.1  # longer than the filter reaches, so that the end of a cut is not heard
DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)  # of where a copy is written, not of the file that is read
CUT_OFF_S = 0.5  # a track that ends this much before its header says was cut off


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
def opened_media(path: Path) -> "Iterator[av.container.InputContainer]":
    """Open a file for reading. Raises: MediaError for one that is missing, empty, not media, or damaged where it is read."""
    if not path.is_file():
        raise MediaError(f"no file at {path}")
    if path.stat().st_size == 0:
        raise MediaError("the file is empty (0 bytes)")
    try:
        container = av.open(str(path.absolute()), metadata_errors="replace", options={"format_whitelist": FORMATS})
    except av.FFmpegError as error:
        raise MediaError(f"not a media file, or cut off before its index ({error.strerror})") from None
    with container:
        try:
            yield container
        except av.FFmpegError as error:
            if error.errno in DISK_FAULTS:
                raise
            raise MediaError(f"the file is damaged ({error.strerror})") from None


def clock_origin_s(container: "av.container.InputContainer") -> Fraction:
    """The time in the file's clock that is our time 0."""
    if container.format.name not in FORMATS_WITH_ANY_ORIGIN or container.start_time is None:
        return Fraction(0)
    return Fraction(container.start_time, av.time_base)


def _select(container: "av.container.InputContainer", chosen: av.stream.Stream) -> None:
    """Let the other streams be skipped instead of read, and decode in this thread alone: files are read in parallel."""
    for stream in container.streams:
        stream.discard = av.stream.Discard.none if stream is chosen else av.stream.Discard.all
    chosen.codec_context.thread_count = 1


def of_known_tracks(items: Iterator[Item]) -> Iterator[Item]:
    """Pass on what a container yields. PyAV has no place for a track that appears halfway. Raises: MediaError for one."""
    try:
        yield from items
    except IndexError:
        raise MediaError("the file is damaged (another track appears halfway)") from None


def _decodable(stream: AnyStream, what: str) -> AnyStream:
    if stream.codec_context is None:
        raise MediaError(f"its {what} is in a format that cannot be decoded here")
    return stream


def picture_of(container: "av.container.InputContainer") -> "av.VideoStream":
    """The first moving picture. Raises: MediaError if there is none, or none that can be decoded."""
    moving = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]  # no cover art
    if not moving:
        raise MediaError("the file has no picture")
    return _decodable(moving[0], "picture")


def _frames(container: "av.container.InputContainer", stream: "av.VideoStream") -> "Iterator[tuple[Fraction, av.VideoFrame]]":
    """Frames in order, with their times in seconds."""
    _select(container, stream)
    origin_s = clock_origin_s(container)
    for frame in of_known_tracks(container.decode(stream)):
        if frame.pts is None or frame.time_base is None:
            raise MediaError("a frame has no time stamp")
        yield frame.pts * frame.time_base - origin_s, frame


def _is_mirrored(frame: "av.VideoFrame") -> bool:
    matrix = cast(Mapping[str, Buffer], frame.side_data).get("DISPLAYMATRIX")
    if matrix is None:
        return False
    a, b, _, c, d = (int(value) for value in np.frombuffer(bytes(matrix), np.int32)[:5])
    return a * d < b * c


def _pixels(frame: "av.VideoFrame") -> Tensor:
    """(3, height, width) uint8 RGB, turned upright, channels last in memory."""
    rgb = frame.to_ndarray(format="rgb24", channel_last=True, threads=1)
    turns = round(frame.rotation / QUARTER_TURN_DEG)  # counter-clockwise, both here and in the file
    if _is_mirrored(frame):  # first left to right; what is left to do is a turn, half a turn from the one told
        rgb, turns = rgb[:, ::-1], turns + 2
    return torch.from_numpy(np.ascontiguousarray(np.rot90(rgb, turns))).permute(2, 0, 1)


@dataclass
class _Streams:
    """Both streams while they fill."""

    clip: FramePicker
    sync: FramePicker
    clip_frames: list[Tensor] = field(default_factory=list)
    sync_frames: list[Tensor] = field(default_factory=list)
    cut_off: str = ""  # why the picture ends before the file's header says, where it does

    @property
    def pickers(self) -> tuple[FramePicker, FramePicker]:
        return self.clip, self.sync

    def take(self, time_s: Fraction, frame: "av.VideoFrame") -> None:
        num_clip, num_sync = self.clip.take(time_s), self.sync.take(time_s)
        if num_clip or num_sync:
            pixels = _pixels(frame)
            self.clip_frames += [scene_frame(pixels)] * num_clip if num_clip else []
            self.sync_frames += [sync_frame(pixels)] * num_sync if num_sync else []

    def hold(self) -> None:
        """Let the last frames stand for one output more, where one is missing."""
        self.clip_frames += self.clip_frames[-1:] * self.clip.hold()
        self.sync_frames += self.sync_frames[-1:] * self.sync.hold()

    def check(self) -> None:
        """Raises: MediaError if frames are missing."""
        if self.cut_off and not all(picker.is_full for picker in self.pickers):
            raise MediaError(self.cut_off)
        self.clip.check("scene")
        self.sync.check("synchronisation")


def _read_frames(path: Path, end_s: Fraction, num_clip: int, num_sync: int) -> _Streams:
    """Fill both streams in one pass, stopping as soon as nothing later can fill them."""
    streams = _Streams(FramePicker(CLIP_FPS, end_s, num_clip), FramePicker(SYNC_FPS, end_s, num_sync))
    with opened_media(path) as container:
        picture = picture_of(container)
        shown_until_s = Fraction(0)
        for time_s, frame in _frames(container, picture):
            streams.take(time_s, frame)
            if all(picker.is_done for picker in streams.pickers):
                return streams
            shown_until_s = time_s + (frame.duration or 0) * (frame.time_base or 0)
        streams.cut_off = _cut_off("picture", shown_until_s, picture)
    return streams


def _cut_off(what: str, ends_s: Fraction, stream: av.stream.Stream) -> str:
    """Say that a track ends before the header says, or "" where it does not."""
    if stream.duration is None or stream.time_base is None:
        return ""
    promised_s = float(((stream.start_time or 0) + stream.duration) * stream.time_base)
    if ends_s > promised_s - CUT_OFF_S:
        return ""
    return f"the file is cut off: its {what} ends after {float(ends_s):.2f} of {promised_s:.2f} s"


def read_sound_track(path: Path, until_s: float | None = None, *, whole_peak: bool = True) -> Sound:
    """The sound of a video, channels averaged, from time 0 to `until_s` (None: its end).

    Only what is returned is kept in memory. With `whole_peak` the rest of the track is decoded too, and `file_peak` is
    that of the whole track; without, decoding stops and it is the peak of what was read.
    Raises: MediaError, also for a track that was cut off before `until_s`; one that is merely short is returned.
    """
    with opened_media(path) as container:
        if not container.streams.audio:
            raise MediaError("the file has no sound")
        stream = _decodable(container.streams.audio[0], "sound")
        _select(container, stream)
        reader = TrackReader(clock_origin_s(container), until_s)
        for frame in of_known_tracks(container.decode(stream)):
            reader.take(frame)
            if reader.is_full and not whole_peak:
                break
        cut_off = "" if until_s is None or reader.is_full else _cut_off("sound", reader.ends_s, stream)
        if cut_off:
            raise MediaError(cut_off)
        return reader.sound()


def read_sound(path: Path) -> Sound:
    """The sound of an audio file, or of a video file. Raises: MediaError."""
    return read_audio(path) if path.suffix.lower() in AUDIO_SUFFIXES else read_sound_track(path)


def read_video(path: Path, spec: AudioSpec, *, with_sound: bool, normalise: bool = True) -> VideoMedia:
    """A training clip: the first `spec.duration_s` of a video, by data.md section 4.

    With `normalise` the sound is brought to one level by the peak of its whole track; it is resampled before it is cut.
    The last frame is held for at most one output, so that a video of exactly the duration is kept.
    Raises: MediaError, in plain words, for a file that is missing, damaged, too short, silent, or without picture or sound.
    """
    wave = _training_wave(path, spec, normalise) if with_sound else None  # first: it costs little and refuses most
    streams = _read_frames(path, exact_seconds(spec.duration_s), spec.num_clip_frames, spec.num_sync_frames)
    streams.hold()
    streams.check()
    return VideoMedia(torch.stack(streams.clip_frames), torch.stack(streams.sync_frames), wave)


def _training_wave(path: Path, spec: AudioSpec, normalise: bool) -> Tensor:
    sound = read_sound_track(path, spec.num_samples / spec.rate_hz + RESAMPLER_MARGIN_S, whole_peak=normalise)
    wave = normalise_peak(sound.wave, sound.file_peak) if normalise else sound.wave
    return fit_length(resample(wave, sound.rate_hz, spec.rate_hz), spec)


def read_silent_video(path: Path, duration_s: float) -> SilentVideo:
    """The picture alone, for generation: a shorter video lowers the duration to what it covers (data.md section 6.2).

    Raises: MediaError for a file that is missing, damaged, without picture, or shorter than one sync segment.
    """
    wanted_s = exact_seconds(duration_s)
    streams = _read_frames(path, wanted_s, int(wanted_s * CLIP_FPS), int(wanted_s * SYNC_FPS))
    covered = covered_s(streams.pickers, wanted_s)
    if covered < exact_seconds(MIN_DURATION_S):
        raise MediaError(f"too short: {float(covered):.2f} s of picture, want at least {MIN_DURATION_S} s")
    num_clip, num_sync = int(covered * CLIP_FPS), int(covered * SYNC_FPS)
    return SilentVideo(torch.stack(streams.clip_frames[:num_clip]), torch.stack(streams.sync_frames[:num_sync]), _as_float(covered))


def _as_float(seconds: Fraction) -> float:
    """The float nearest to it for which AudioSpec counts the same frames: 25 · 9.28 is less than 232 in floating point."""
    nearest = float(seconds)
    counts_all = all(int(nearest * rate_hz) >= int(seconds * rate_hz) for rate_hz in (CLIP_FPS, SYNC_FPS))
    return nearest if counts_all else nextafter(nearest, inf)
