"""A video in one pass: frames at two rates and its sound.

Everything is on the file's own clock: frame times and the sound's first sample count from time 0, so a track that
starts late stays late. Frames stay uint8 (frames, 3, height, width).
"""

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, inf, nextafter
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mmaudio.base.specs import CLIP_FPS, MIN_DURATION_S, SILENCE_PEAK, SYNC_FPS, AudioSpec
from mmaudio.media.audio import MediaError, Sound, average_channels, check_rate, read_audio
from mmaudio.media.audio_clips import fit_length, normalise_peak
from mmaudio.media.containers import clock_origin_s, cut_off, decode_tracks, opened_media, sound_of
from mmaudio.media.frame_selection import ExactPicker, FramePicker, covered_s, exact_seconds, new_picker
from mmaudio.media.frame_streams import PictureTrack, Stream, scene_and_sync
from mmaudio.media.resampling import resample
from mmaudio.media.suffixes import AUDIO_SUFFIXES

# ---- Blocks of a sound track to one mono wave on the file's clock, keeping no more than is wanted

Wave = npt.NDArray[np.float32]
LONGEST_GAP_S = 600  # time stamps that jump further are wrong
JITTER_S = Fraction(1, 20)  # time stamps may be this far from where the samples before them end


class SoundTrack:
    """Takes blocks in order and lays them on a line that starts at time 0; a late start or a gap becomes silence.

    Samples until `until_s` are kept (None: all). With `whole_peak` the rest is decoded too, for the peak.
    """

    def __init__(self, container: "av.container.InputContainer", until_s: float | None, *, whole_peak: bool) -> None:
        self.stream = sound_of(container)
        self.origin_s = clock_origin_s(container)
        self.until_s = until_s
        self.whole_peak = whole_peak
        self.rate_hz = 0
        self.peak = 0.0
        self.num_samples = 0  # laid so far, kept or not
        self.blocks: list[Wave] = []
        self.to_float = av.AudioResampler(format="fltp")
        self.layout = ""

    @property
    def num_wanted(self) -> int | None:
        return None if self.until_s is None else round(self.until_s * self.rate_hz)

    @property
    def is_full(self) -> bool:
        return self.num_wanted is not None and self.rate_hz > 0 and self.num_samples >= self.num_wanted

    @property
    def is_done(self) -> bool:
        return self.is_full and not self.whole_peak

    def take(self, frame: "av.AudioFrame") -> None:
        """Add a decoded block.

        Raises: MediaError for damage, another rate than before, a wild rate or time stamp, and samples that are no numbers.
        """
        if frame.is_corrupt:
            raise MediaError(f"the sound is damaged at {float(self.num_samples / (self.rate_hz or 1)):.2f} s")
        check_rate(frame.sample_rate)
        if self.rate_hz not in (0, frame.sample_rate):
            raise MediaError(f"the sound changes its rate from {self.rate_hz} to {frame.sample_rate} Hz")
        if self.layout != frame.layout.name:  # a broadcast may change from stereo to mono and back
            self.to_float, self.layout = av.AudioResampler(format="fltp"), frame.layout.name
        self.rate_hz = frame.sample_rate
        mono = np.concatenate([average_channels(part.to_ndarray(), axis=0) for part in self.to_float.resample(frame)])
        if not np.isfinite(mono).all():
            raise MediaError("the sound holds samples that are not finite numbers")
        gap = self._gap_samples(frame)
        if gap > 0:
            self._lay(np.zeros(gap, np.float32))
        mono = mono[max(0, -gap) :]
        self.peak = max(self.peak, float(np.abs(mono).max(initial=0.0)))
        self._lay(mono)

    def _gap_samples(self, frame: "av.AudioFrame") -> int:
        """Samples between where the track ends so far and where this block belongs; below 0 for a start before time 0."""
        if frame.pts is None or frame.time_base is None:
            return 0
        starts_at = (frame.pts * frame.time_base - self.origin_s) * self.rate_hz
        gap = starts_at - self.num_samples
        if gap > LONGEST_GAP_S * self.rate_hz:
            raise MediaError(f"the sound has a gap of {float(gap / self.rate_hz):.0f} s")
        starts_track = not self.num_samples  # all so far, if anything, lay before time 0
        return round(gap) if starts_track or gap > JITTER_S * self.rate_hz else 0

    def _lay(self, mono: Wave) -> None:
        room = None if self.num_wanted is None else max(0, self.num_wanted - self.num_samples)
        if room != 0:
            self.blocks.append(mono[:room])
        self.num_samples += len(mono)

    def sound(self) -> Sound:
        """What was kept. Raises: MediaError if there was nothing, or if the file was cut off before `until_s`."""
        if self.until_s is not None and not self.is_full:
            ends_s = Fraction(self.num_samples, self.rate_hz or 1)
            reason = cut_off("sound", ends_s, self.stream)
            if reason:
                raise MediaError(reason)
        if not self.num_samples:
            raise MediaError("the sound track is empty")
        return Sound(np.concatenate(self.blocks), self.rate_hz, self.peak)


# ---- A whole video

RESAMPLER_MARGIN_S = 0.1  # longer than the filter reaches, so that the end of a cut is not heard


@dataclass(frozen=True)
class VideoMedia:
    """Frames of both streams, (clip frames, 3, 384, 384) and (sync frames, 3, 224, 224) uint8, and the wave (samples,)."""

    clip_u8: Tensor
    sync_u8: Tensor
    wave: Tensor | None

    def frames_on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Scene and synchronisation frames on a device."""
        return self.clip_u8.to(device, non_blocking=True), self.sync_u8.to(device, non_blocking=True)

    def pin_memory(self) -> "VideoMedia":
        """The same in page-locked memory, from where a GPU fetches while it computes."""
        wave = None if self.wave is None else self.wave.pin_memory()
        return VideoMedia(self.clip_u8.pin_memory(), self.sync_u8.pin_memory(), wave)


@dataclass(frozen=True)
class SilentVideo:
    """Frames of both streams, and the seconds they cover: what was asked for, or less for a shorter video."""

    clip_u8: Tensor
    sync_u8: Tensor
    duration_s: float


def read_sound_track(path: Path, until_s: float | None = None, *, whole_peak: bool = True) -> Sound:
    """The sound of a video, channels averaged, from time 0 to `until_s` (None: its end).

    Only what is returned is kept in memory. With `whole_peak` the rest of the track is decoded too, and `file_peak` is
    that of the whole track; without, decoding stops and it is the peak of what was read.
    Raises: MediaError, also for a track that was cut off before `until_s`; one that is merely short is returned.
    """
    with opened_media(path) as container:
        track = SoundTrack(container, until_s, whole_peak=whole_peak)
        decode_tracks(container, [track])
        return track.sound()


def read_sound(path: Path) -> Sound:
    """The sound of an audio file, or of a video file. Raises: MediaError."""
    return read_audio(path) if path.suffix.lower() in AUDIO_SUFFIXES else read_sound_track(path)


def read_video(path: Path, spec: AudioSpec, *, with_sound: bool, normalise: bool = True, frame_rule: str = "exact") -> VideoMedia:
    """A training clip: the first `spec.duration_s` of a video, by data.md section 4.

    With `normalise` the sound is brought to one level by the peak of its whole track; it is resampled before it is cut.
    `frame_rule` is one of FRAME_RULES. By "exact" the last frame is held for at most one output, so that a video of exactly
    the duration is kept; by "ffmpeg" frames are numbered from the first one, and the sound is not moved along with them.
    Raises: ValueError for another rule; MediaError, in plain words, for a file that is missing, damaged, too short, silent
    (with `normalise`, in the clip or all of it), or without picture or sound.
    """
    pickers = training_pickers(spec, frame_rule)
    with opened_media(path) as container:
        picture = PictureTrack(container, *scene_and_sync(*pickers))
        wave = read_opened(container, picture, spec, with_sound=with_sound, normalise=normalise)
    return VideoMedia(picture.clip.frames_u8, picture.sync.frames_u8, wave)


def training_pickers(spec: AudioSpec, frame_rule: str) -> tuple[FramePicker, FramePicker]:
    """What fills the scene and the synchronisation frames of a training clip. Raises: ValueError for an unknown rule."""
    end_s = exact_seconds(spec.duration_s)
    clip = new_picker(frame_rule, CLIP_FPS, spec.num_clip_frames, end_s)
    return clip, new_picker(frame_rule, SYNC_FPS, spec.num_sync_frames, end_s)


def read_opened(
    container: "av.container.InputContainer", picture: PictureTrack[Stream], spec: AudioSpec, *, with_sound: bool, normalise: bool
) -> Tensor | None:
    """Read an open file once: fill both streams of its picture, and return the wave if it is wanted. Raises: as `read_video`."""
    until_s = spec.num_samples / spec.rate_hz + RESAMPLER_MARGIN_S
    sound = SoundTrack(container, until_s, whole_peak=normalise) if with_sound else None
    decode_tracks(container, [picture] if sound is None else [sound, picture])
    wave = None if sound is None else _training_wave(sound.sound(), spec, normalise)
    picture.finish()
    return wave


def _training_wave(sound: Sound, spec: AudioSpec, normalise: bool) -> Tensor:
    wave = sound.wave
    if normalise:
        wave = normalise_peak(wave, sound.file_peak)
        clip = sound.wave[: ceil(Fraction(spec.num_samples * sound.rate_hz, spec.rate_hz))]
        clip_peak = float(np.abs(clip).max(initial=0.0))
        if clip_peak < SILENCE_PEAK:
            raise MediaError(f"silent: the largest sample of the clip is {clip_peak:.1e}")
    return fit_length(resample(wave, sound.rate_hz, spec.rate_hz), spec)


def read_silent_video(path: Path, duration_s: float) -> SilentVideo:
    """The picture alone, for generation: a shorter video lowers the duration to what it covers (data.md section 6.2).

    Raises: MediaError for a file that is missing, damaged, without picture, or shorter than one sync segment.
    """
    wanted_s = exact_seconds(duration_s)
    clip, sync = (ExactPicker(rate_hz, int(wanted_s * rate_hz), wanted_s) for rate_hz in (CLIP_FPS, SYNC_FPS))
    with opened_media(path) as container:
        picture = PictureTrack(container, *scene_and_sync(clip, sync))
        decode_tracks(container, [picture])
    covered = covered_s([clip, sync], wanted_s)
    if covered < exact_seconds(MIN_DURATION_S):
        found = f"{float(covered):.2f} s of picture" if covered else f"no picture within the first {duration_s:g} s"
        raise MediaError(f"too short: {found}, want at least {MIN_DURATION_S} s")
    num_clip, num_sync = int(covered * CLIP_FPS), int(covered * SYNC_FPS)
    return SilentVideo(picture.clip.frames_u8[:num_clip], picture.sync.frames_u8[:num_sync], _as_float(covered))


def _as_float(seconds: Fraction) -> float:
    """The float nearest to it for which AudioSpec counts the same frames: 25 · 9.28 is less than 232 in floating point."""
    nearest = float(seconds)
    counts_all = all(int(nearest * rate_hz) >= int(seconds * rate_hz) for rate_hz in (CLIP_FPS, SYNC_FPS))
    return nearest if counts_all else nextafter(nearest, inf)
