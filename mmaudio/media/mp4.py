"""Every .mp4 that is written: new, or a video's packets with another sound."""

import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO

import av
import numpy as np
import numpy.typing as npt

from mmaudio.files.atomic import atomic_path
from mmaudio.media.audio import MediaError
from mmaudio.media.containers import clock_origin_s, of_known_tracks, opened_media, picture_of

# ---- A wave on its way into a file

AAC_BITS_PER_S = 128_000
AAC_FRAME_SAMPLES = 1024


class AacTrack:
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
        """Encode what begins before a time of the wave and is not encoded yet."""
        end = min(len(self.samples), int(time_s * self.rate_hz))
        while self.num_encoded < end:
            block = self.samples[None, self.num_encoded : self.num_encoded + AAC_FRAME_SAMPLES]
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = self.rate_hz, self.num_encoded, Fraction(1, self.rate_hz)
            self.container.mux(self.stream.encode(frame))
            self.num_encoded += block.shape[1]

    def finish(self, num_samples: int | None = None) -> None:
        """Encode what is left; with `num_samples`, cut the wave to so many, or follow it by silence."""
        if num_samples is not None:
            self.samples = np.pad(self.samples[:num_samples], (0, max(0, num_samples - len(self.samples))))
        self.encode_until(Fraction(len(self.samples), self.rate_hz))
        self.container.mux(self.stream.encode(None))


CONTAINER_OPTIONS = {"fflags": "+bitexact", "movflags": "+faststart"}
_BOX_HEAD = 8  # bytes of length and name
_PATH_OF_COMMENT = {b"moov": 0, b"udta": 0, b"meta": 4, b"ilst": 0, b"\xa9cmt": 0, b"data": 8}  # box → bytes before what it holds
_MOST_BOXES, _LONGEST_COMMENT_BYTES = 1 << 10, 1 << 20  # of files that others made
X264_OPTIONS = {"crf": "18", "preset": "veryfast", "threads": "1"}


def add_h264(container: "av.container.OutputContainer", width: int, height: int, fps: Fraction | int) -> "av.VideoStream":
    """A stream of H.264 (yuv420p) in a container. Raises: MediaError for odd sides, which yuv420p cannot hold."""
    if height % 2 or width % 2:
        raise MediaError(f"frames of {width} x {height} pixels; an H.264 video needs even sides")
    video = container.add_stream("libx264", rate=fps, options=X264_OPTIONS)
    assert isinstance(video, av.VideoStream)
    video.width, video.height, video.pix_fmt = width, height, "yuv420p"
    video.codec_context.flags |= av.codec.context.Flags.bitexact
    return video


def _boxes(file: BinaryIO, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, start of the content and end of each box from a place on; none after one that cannot be (ISO/IEC 14496-12, 4.2)."""
    while at + _BOX_HEAD <= end:
        file.seek(at)
        head = file.read(2 * _BOX_HEAD)
        length, num_before = int.from_bytes(head[:4]), _BOX_HEAD
        if length == 1:  # a larger one, whose length follows its name
            length, num_before = int.from_bytes(head[_BOX_HEAD:]), 2 * _BOX_HEAD
        elif length == 0 and at > 0:  # the last box, up to the end
            length = end - at
        if length < num_before:
            return
        yield head[4:_BOX_HEAD], at + num_before, at + length
        at += length


def is_whole_mp4(path: Path) -> bool:
    """Whether a file is there and its boxes fill it to its end; one that was cut off ends within a box."""
    if not path.is_file():
        return False
    num_bytes = path.stat().st_size
    with open(path, "rb") as file:
        last_end = max((end for _, _, end in _boxes(file, 0, num_bytes)), default=0)
    return last_end == num_bytes > 0


def comment_options(comment: str) -> dict[str, str]:
    """The metadata of a container with a comment, or of one without where that is ""."""
    return {"comment": comment} if comment else {}


def mp4_comment(path: Path) -> str:
    """The comment of an .mp4, found by its boxes alone, nothing decoded; "" where there is none, or the file is something else."""
    try:
        if not path.is_file():
            return ""
        with open(path, "rb") as file:
            start, end = 0, os.fstat(file.fileno()).st_size
            for wanted, num_before in _PATH_OF_COMMENT.items():
                boxes = islice(_boxes(file, start, end), _MOST_BOXES)
                found = next(((first, last) for name, first, last in boxes if name == wanted and last <= end), None)
                if found is None:
                    return ""
                start, end = found[0] + num_before, found[1]
            file.seek(start)
            return file.read(max(0, min(end - start, _LONGEST_COMMENT_BYTES))).decode("utf-8", "replace")
    except OSError:
        return ""


# ---- A video's own picture with another sound: the same packets, not decoded and not encoded again

LONGEST_JUMP_S = 600  # time stamps that jump further are wrong
ANEW = "have the picture encoded anew: --reencode"
Packet = Any  # av.Packet, whose type has a parameter that says nothing here


def mux_sound(video_in: Path, wave: npt.ArrayLike, rate_hz: int, video_out: Path, comment: str = "") -> None:
    """Write a copy of a video whose picture packets are the same bytes and whose sound is `wave` (samples,), mono AAC.

    The wave's first sample is at the video's time 0; it is cut, or followed by silence, to the picture's end. Other tracks
    are left out, and `comment` goes into the container's metadata. (Broadcast formats and .avi mark the parts of H.264 in
    another way than an .mp4; there the parts are the same bytes.) Atomic.
    Raises: MediaError for a file that is missing, damaged, without picture, or with one an .mp4 cannot hold.
    """
    with opened_media(video_in) as source, atomic_path(video_out.absolute()) as temporary:  # "a:b.mp4" alone were a URL to FFmpeg
        picture = picture_of(source)
        name = picture.codec_context.codec.canonical_name  # the format's, where the decoder has a name of its own
        with av.open(str(temporary), "w", format="mp4", options=CONTAINER_OPTIONS) as container:
            if name not in container.supported_codecs:
                raise MediaError(f"its picture is {name}, which an .mp4 cannot hold; {ANEW}")
            container.metadata.update(comment_options(comment))
            copy = container.add_stream_from_template(picture, opaque=True)  # as it is, whether or not it could be encoded here
            _copy_picture(source, picture, container, copy, AacTrack(container, wave, rate_hz))


def _copy_picture(
    source: "av.container.InputContainer",
    picture: "av.VideoStream",
    container: "av.container.OutputContainer",
    copy: "av.VideoStream",
    sound: AacTrack,
) -> None:
    assert picture.time_base is not None
    origin = round(clock_origin_s(source) / picture.time_base)
    end_s = Fraction(0)
    for packet in _placed(of_known_tracks(source.demux(picture)), picture.codec_context.has_b_frames):
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


def _placed(packets: Iterable[Packet], is_reordered: bool) -> Iterator[Packet]:
    """Pass on the packets that hold something, each with both time stamps. Raises: MediaError for one that nobody can place.

    Matroska says when a picture is shown and not when it is decoded; FFmpeg finds that out from the third or so on, by when
    the first, without which no other can be decoded, has passed.
    """
    early: list[Packet] = []  # no time of decoding yet
    for packet in packets:
        if packet.size == 0:  # the end of the stream
            continue
        if packet.pts is None and (is_reordered or packet.dts is None):
            raise MediaError(f"a part of its picture has no time stamp; {ANEW}")
        if packet.dts is None:
            early.append(packet)
            continue
        packet.pts = packet.dts if packet.pts is None else packet.pts
        yield from _decoded_before(packet.dts, early)
        early = []
        yield packet
    if early:
        yield from _decoded_before(early[-1].pts + 1, early)


def _decoded_before(next_dts: int, early: list[Packet]) -> list[Packet]:
    """Give packets times of decoding that rise to the next one's, and are not after those at which they are shown."""
    for packet in reversed(early):
        next_dts = packet.dts = min(packet.pts, next_dts - max(1, packet.duration or 0))
    return early


# ---- Pictures and sound to a new file


def write_video(
    path: Path,
    frames: Iterable[npt.NDArray[np.uint8]],
    fps: int,
    wave: npt.ArrayLike | None = None,
    rate_hz: int | None = None,
    comment: str = "",
) -> None:
    """Encode an .mp4: H.264 (yuv420p) from RGB frames (height, width, 3) uint8, and AAC from a mono wave (samples,).

    The same input gives the same bytes. `comment` goes into the container's metadata. Atomic.
    Raises: MediaError for no frames, or odd sides, which yuv420p cannot hold; ValueError for a wave without a rate.
    """
    if (wave is None) != (rate_hz is None):
        raise ValueError("wave and rate_hz belong together: give both or neither")
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise MediaError("no frames to write")
    height, width = first.shape[:2]
    with atomic_path(path.absolute()) as temporary, av.open(str(temporary), "w", format="mp4", options=CONTAINER_OPTIONS) as container:
        container.metadata.update(comment_options(comment))
        video = add_h264(container, width, height, fps)
        sound = AacTrack(container, wave, rate_hz) if wave is not None and rate_hz is not None else None
        for index, pixels in enumerate(chain((first,), frames)):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, fps)
            container.mux(video.encode(frame))
            if sound is not None:
                sound.encode_until(Fraction(index, fps))
        container.mux(video.encode(None))
        if sound is not None:
            sound.finish()
