"""The planes of decoded frames, copied as they are, for the frames of which a device can do the rest (`media.planes`)."""

import av
import numpy as np
import torch
from av.sidedata.sidedata import SideDataContainer
from av.video.reformatter import ColorRange
from torch import Tensor

from mmaudio.media.planes import PictureLayout

FULL_RANGE_FORMAT = "yuvj420p"
FORMATS = ("yuv420p", FULL_RANGE_FORMAT)
MATRICES = {1: "bt709", 2: "bt601", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020"}  # H.273 codes; 2 is "not told", of any size


def layout_of(frame: "av.VideoFrame") -> PictureLayout | None:
    """How to read the frame's planes, or None for one that has to be converted on the host.

    The host is left: other formats and depths, odd sides, frames to be turned or mirrored, interlaced ones (each field has
    its own chroma rows) and colour matrices that are rare, unknown or of no such picture.
    """
    matrix = MATRICES.get(int(frame.colorspace))
    is_plain = frame.format.name in FORMATS and frame.width % 2 == 0 and frame.height % 2 == 0 and not frame.interlaced_frame
    if matrix is None or not is_plain or _is_to_be_turned(frame):
        return None
    is_full_range = frame.format.name == FULL_RANGE_FORMAT or frame.color_range == ColorRange.JPEG
    return PictureLayout(frame.height, frame.width, matrix, is_full_range)


def _is_to_be_turned(frame: "av.VideoFrame") -> bool:
    # Not frame.side_data: the frame would keep that, and that the frame, so that both would stay in memory until the next
    # garbage collection, hundreds of frames in the meantime.
    return "DISPLAYMATRIX" in SideDataContainer(frame)  # type: ignore[call-arg]  # its stub leaves the argument out


def has_planes(frame: "av.VideoFrame") -> bool:
    """Whether `planes_of` may be asked for this frame."""
    return layout_of(frame) is not None


def copy_planes_(packed_u8: Tensor, frame: "av.VideoFrame") -> None:
    """Fill (packed bytes,) uint8 in host memory from a frame that has planes, without what pads the decoder's lines.

    Raises: ValueError if the lengths differ.
    """
    if packed_u8.numel() != frame.height * frame.width * 3 // 2:
        raise ValueError(f"{packed_u8.numel()} bytes for planes of {frame.width} x {frame.height} pixels")
    target, start = packed_u8.numpy(), 0
    for plane in frame.planes:
        end = start + plane.height * plane.width
        lines = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
        target[start:end].reshape(plane.height, plane.width)[:] = lines[:, : plane.width]
        start = end


def planes_of(frame: "av.VideoFrame") -> Tensor:
    """The packed planes (bytes,) uint8 of a frame that has planes, in the order `Planes` wants them; a copy."""
    packed_u8 = torch.empty(frame.height * frame.width * 3 // 2, dtype=torch.uint8)
    copy_planes_(packed_u8, frame)
    return packed_u8
