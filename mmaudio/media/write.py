"""Pictures and sound to video files: new ones encoded, or a video's own packets with another sound."""

from collections.abc import Iterable
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from mmaudio.base.files import atomic_path
from mmaudio.media.audio import MediaError
from mmaudio.media.containers import clock_origin_s, of_known_tracks, opened_media, picture_of

AAC_BITS_PER_S = 128_000
AAC_FRAME_SAMPLES = 1024
LONGEST_JUMP_S = 600  # time stamps that jump further are wrong
X264_OPTIONS = {"crf": "18", "preset": "veryfast", "threads": "1"}
CONTAINER_OPTIONS = {"fflags": "+bitexact", "movflags": "+faststart"}  # the same input gives the same bytes


class _AacTrack:
    """A mono wave on its way into a container, encoded bit by bit so that sound and picture lie side by side in the file."""

    def __init__(self, container: "av.container.OutputContainer", wave: npt.ArrayLike, rate_hz: int) -> None:
        stream = container.add_stream("aac", rate=rate_hz, layout="mono")
        assert isinstance(stream, av.AudioStream)
        stream.bit_rate = AAC_BITS_PER_S
        stream.codec_context.flags |= av.codec.context.Flags.bitexact
        self.container, self.stream, self.rate_hz = container, stream, rate_hz
        self.samples = np.clip(np.asarray(wave, dtype=np.float32), -1.0, 1.0)
        if not np.isfinite(self.samples).all():
            raise ValueError("the wave holds values that are not finite numbers")
        self.num_encoded = 0

    def encode_until(self, time_s: Fraction) -> None:
        end = min(len(self.samples), int(time_s * self.rate_hz))
        while self.num_encoded < end:
            block = self.samples[None, self.num_encoded : self.num_encoded + AAC_FRAME_SAMPLES]
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = self.rate_hz, self.num_encoded, Fraction(1, self.rate_hz)
            self.container.mux(self.stream.encode(frame))
            self.num_encoded += block.shape[1]

    def finish(self, length: int | None = None) -> None:
        """Encode what is left; with `length`, cut the wave to so many samples, or follow it by silence."""
        if length is not None:
            self.samples = np.pad(self.samples[:length], (0, max(0, length - len(self.samples))))
        self.encode_until(Fraction(len(self.samples), self.rate_hz))
        self.container.mux(self.stream.encode(None))


def write_video(
    path: Path, frames: Iterable[npt.NDArray[np.uint8]], fps: int, wave: npt.ArrayLike | None = None, rate_hz: int | None = None
) -> None:
    """Encode an .mp4: H.264 (yuv420p) from RGB frames (height, width, 3) uint8, and AAC from a mono wave (samples,).

    The same input gives the same bytes. Atomic.
    Raises: MediaError for no frames, or odd sides, which yuv420p cannot hold; ValueError for a wave without a rate.
    """
    if (wave is None) != (rate_hz is None):
        raise ValueError("wave and rate_hz belong together: give both or neither")
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise MediaError("no frames to write")
    height, width = first.shape[:2]
    if height % 2 or width % 2:
        raise MediaError(f"frames of {width} x {height} pixels; an H.264 video needs even sides")
    with atomic_path(path.absolute()) as temporary, av.open(str(temporary), "w", format="mp4", options=CONTAINER_OPTIONS) as container:
        video = container.add_stream("libx264", rate=fps, options=X264_OPTIONS)
        assert isinstance(video, av.VideoStream)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.codec_context.flags |= av.codec.context.Flags.bitexact
        sound = _AacTrack(container, wave, rate_hz) if wave is not None and rate_hz is not None else None
        for index, pixels in enumerate(chain((first,), frames)):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, fps)
            container.mux(video.encode(frame))
            if sound is not None:
                sound.encode_until(Fraction(index, fps))
        container.mux(video.encode(None))
        if sound is not None:
            sound.finish()


def mux_sound(video_in: Path, wave: npt.ArrayLike, rate_hz: int, video_out: Path) -> None:
    """Write a copy of a video whose picture packets are the same bytes and whose sound is `wave` (samples,), mono AAC.

    The wave's first sample is at the video's time 0; it is cut, or followed by silence, to the picture's end. Atomic.
    Raises: MediaError for a file that is missing, damaged, without picture, or with one an .mp4 cannot hold.
    """
    with opened_media(video_in) as source, atomic_path(video_out.absolute()) as temporary:  # "a:b.mp4" alone were a URL to FFmpeg
        picture = picture_of(source)
        with av.open(str(temporary), "w", format="mp4", options=CONTAINER_OPTIONS) as container:
            if picture.codec_context.name not in container.supported_codecs:
                raise MediaError(f"its picture is {picture.codec_context.name}, which an .mp4 cannot hold; convert it to H.264 first")
            _copy_picture(source, picture, container, _AacTrack(container, wave, rate_hz))


def _copy_picture(
    source: "av.container.InputContainer", picture: "av.VideoStream", container: "av.container.OutputContainer", sound: _AacTrack
) -> None:
    copy = container.add_stream_from_template(picture)
    assert picture.time_base is not None
    origin = round(clock_origin_s(source) / picture.time_base)
    end_s = Fraction(0)
    for packet in of_known_tracks(source.demux(picture)):
        if packet.dts is None or packet.pts is None:  # the end of the stream, or a packet nobody can place
            continue
        packet.pts, packet.dts = packet.pts - origin, packet.dts - origin
        shown_until_s = (packet.pts + (packet.duration or 0)) * picture.time_base
        if shown_until_s > end_s + LONGEST_JUMP_S:
            raise MediaError(f"its time stamps jump by {float(shown_until_s - end_s):.0f} s")
        end_s = max(end_s, shown_until_s)
        decoded_s = packet.dts * picture.time_base
        packet.stream = copy
        container.mux(packet)
        sound.encode_until(decoded_s)
    if not end_s:
        raise MediaError("the file has no picture")
    sound.finish(round(end_s * sound.rate_hz))
