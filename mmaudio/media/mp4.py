"""How every .mp4 is written: the same input gives the same bytes, and H.264 that any player shows; and whether one is whole."""

from fractions import Fraction
from pathlib import Path

import av

from mmaudio.media.audio import MediaError

CONTAINER_OPTIONS = {"fflags": "+bitexact", "movflags": "+faststart"}
_BOX_HEAD = 8  # bytes of length and name
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


def is_whole_mp4(path: Path) -> bool:
    """Whether a file is there and its boxes fill it to its end; one that was cut off ends within a box (ISO/IEC 14496-12, 4.2)."""
    if not path.is_file():
        return False
    num_bytes, at = path.stat().st_size, 0
    with open(path, "rb") as file:
        while at + _BOX_HEAD <= num_bytes:
            file.seek(at)
            head = file.read(2 * _BOX_HEAD)
            length = int.from_bytes(head[:4])
            if length == 1:  # a larger one, whose length follows its name
                length = int.from_bytes(head[_BOX_HEAD:])
            if length < _BOX_HEAD:
                return length == 0 and at > 0  # 0: the last box, up to the end
            at += length
    return at == num_bytes and at > 0
