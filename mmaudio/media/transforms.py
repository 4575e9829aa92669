"""Frames to the two sizes the encoders want (data.md section 7), uint8 in and out: (3, height, width) RGB."""

from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from mmaudio.base.specs import CLIP_SIDE_PX, SYNC_SIDE_PX


def _resize(frame_u8: Tensor, height: int, width: int) -> Tensor:
    # A batch of one is seen to lie with its channels last, as decoded frames do, and takes half the time.
    return F.resize(frame_u8[None], [height, width], InterpolationMode.BICUBIC, antialias=True)[0]


def scene_frame(frame_u8: Tensor) -> Tensor:
    """Squeeze to 384 × 384, whatever the shape; bicubic with antialiasing."""
    return _resize(frame_u8, CLIP_SIDE_PX, CLIP_SIDE_PX)


def sync_frame(frame_u8: Tensor) -> Tensor:
    """Bring the shorter side to 224 and cut the middle 224 × 224."""
    height, width = frame_u8.shape[-2:]
    short = min(height, width)
    size = [int(SYNC_SIDE_PX * height / short), int(SYNC_SIDE_PX * width / short)]
    resized = _resize(frame_u8, *size)
    top, left = (round((side - SYNC_SIDE_PX) / 2) for side in size)  # halves to even, as published
    return resized[..., top : top + SYNC_SIDE_PX, left : left + SYNC_SIDE_PX]
