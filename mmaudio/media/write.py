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

AAC_BITS_PER_S = 128_000
AAC_FRAME_SAMPLES = 1024
X264_OPTIONS = {"crf": "18", "preset": "veryfast", "threads": "1"}
CONTAINER_OPTIONS = {"fflags": "+bitexact", "movflags": "+faststart"}  # the same input gives the same bytes


def _add_aac(container: "av.container.OutputContainer", rate_hz: int) -> "av.AudioStream":
    stream = container.add_stream("aac", rate=rate_hz, layout="mono")
    assert isinstance(stream, av.AudioStream)
    stream.bit_rate = AAC_BITS_PER_S
    stream.codec_context.flags |= av.codec.context.Flags.bitexact
    return stream


def _encode_sound(container: "av.container.OutputContainer", stream: "av.AudioStream", wave: npt.ArrayLike, rate_hz: int) -> None:
    samples = np.clip(np.asarray(wave, dtype=np.float32), -1.0, 1.0)
    for start in range(0, len(samples), AAC_FRAME_SAMPLES):
        block = np.ascontiguousarray(samples[None, start : start + AAC_FRAME_SAMPLES])
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = rate_hz, start, Fraction(1, rate_hz)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def write_video(
    path: Path, frames: Iterable[npt.NDArray[np.uint8]], fps: int, wave: npt.ArrayLike | None = None, rate_hz: int | None = None
) -> None:
    """Encode an .mp4: H.264 (yuv420p) from RGB frames (height, width, 3) uint8, and AAC from a mono wave (samples,).

    The same input gives the same bytes. Atomic. Raises: MediaError for no frames, or odd sides, which yuv420p cannot hold.
    """
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise MediaError("no frames to write")
    height, width = first.shape[:2]
    if height % 2 or width % 2:
        raise MediaError(f"frames of {width} x {height} pixels; an H.264 video needs even sides")
    with atomic_path(path) as temporary, av.open(str(temporary), "w", format="mp4", options=CONTAINER_OPTIONS) as container:
        video = container.add_stream("libx264", rate=fps, options=X264_OPTIONS)
        assert isinstance(video, av.VideoStream)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        video.codec_context.flags |= av.codec.context.Flags.bitexact
        sound = _add_aac(container, rate_hz) if wave is not None and rate_hz is not None else None
        for index, pixels in enumerate(chain((first,), frames)):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, fps)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound is not None and wave is not None and rate_hz is not None:
            _encode_sound(container, sound, wave, rate_hz)


def mux_sound(video_in: Path, wave: npt.ArrayLike, rate_hz: int, video_out: Path) -> None:
    """Write a copy of a video whose picture packets are the same bytes and whose sound is `wave` (samples,), mono AAC.

    The sound is cut, or followed by silence, to the picture's length. Atomic. Raises: MediaError for a file without picture.
    """
    try:
        with av.open(str(video_in)) as source, atomic_path(video_out) as temporary:
            if not source.streams.video:
                raise MediaError("no video stream")
            _mux(source, np.asarray(wave, dtype=np.float32), rate_hz, temporary)
    except av.FFmpegError as error:
        raise MediaError(f"not readable as video: {error.strerror}") from None


def _mux(source: "av.container.InputContainer", wave: npt.NDArray[np.float32], rate_hz: int, target: Path) -> None:
    picture = source.streams.video[0]
    with av.open(str(target), "w", format="mp4", options=CONTAINER_OPTIONS) as container:
        copy = container.add_stream_from_template(picture)
        sound = _add_aac(container, rate_hz)
        end_s = 0.0
        for packet in source.demux(picture):
            if packet.dts is None:
                continue
            if packet.pts is not None and packet.time_base is not None:
                end_s = max(end_s, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            packet.stream = copy
            container.mux(packet)
        wanted = round(end_s * rate_hz)
        fitted = np.pad(wave[:wanted], (0, max(0, wanted - len(wave))))
        _encode_sound(container, sound, fitted, rate_hz)
