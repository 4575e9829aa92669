"""How every .mp4 is written: the same input gives the same bytes, and H.264 that any player shows; whether one is whole; its comment."""

import os
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import av

from mmaudio.media.audio import MediaError

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
