"""Decoded pictures as they leave the decoder, and from there, on any device, the frames both encoders want.

The host then only decodes: it hands on the brightness and colour planes of the frames that are used, 1.5 bytes a pixel,
and the device does what `media.transforms` does on the host, level by level. No files here.
"""

from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor

from mmaudio.base.specs import CLIP_SIDE_PX, SYNC_SIDE_PX
from mmaudio.media.bicubic import Cut, Taps, resize, taps_of

PIXELS_AT_ONCE = 2**23  # of source frames: 4 frames of 1080p, for which the working memory stays below 0.5 GB
RED_AND_BLUE_SHARE = {  # of brightness, by ITU-T H.273 table 4
    "bt709": (0.2126, 0.0722),
    "bt601": (0.299, 0.114),
    "smpte240m": (0.212, 0.087),
    "bt2020": (0.2627, 0.0593),
}
LEVEL_BITS, FACTOR_BITS = 3, 13  # after the point: a product of both is cut to its upper 16 bits, which are whole levels
BLACK, GREY = 16, 128  # levels of limited-range black, and of no colour
LUMA_STEPS, CHROMA_STEPS, FULL_STEPS = 219, 224, 255  # from lowest to highest level: limited range, and full


@dataclass(frozen=True)
class PictureLayout:
    """How to read packed planes: even sides in pixels, one of the matrices above, limited or full range."""

    height: int
    width: int
    matrix: str = "bt601"
    is_full_range: bool = False

    @property
    def packed_bytes(self) -> int:
        return self.height * self.width * 3 // 2

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 2 or self.height % 2 or self.width % 2:
            raise ValueError(f"planes of {self.width} x {self.height} pixels; want even sides")
        if self.matrix not in RED_AND_BLUE_SHARE:
            raise ValueError(f"colour matrix {self.matrix!r}; want one of {', '.join(RED_AND_BLUE_SHARE)}")


@dataclass(frozen=True)
class Planes:
    """The source frames that a clip uses, each once, and which of them every output frame shows.

    packed: (source frames, packed bytes) uint8: per frame the luma plane, then both chroma planes (blue, red) of half its
        height and width, row by row without gaps.
    scene_index, sync_index: (frames of that stream,) int64 on the host, places in `packed`.
    """

    packed: Tensor
    layout: PictureLayout
    scene_index: Tensor
    sync_index: Tensor

    def __post_init__(self) -> None:
        if self.packed.dtype != torch.uint8 or self.packed.dim() != 2 or self.packed.shape[1] != self.layout.packed_bytes:
            have = f"{tuple(self.packed.shape)} {self.packed.dtype}"
            raise ValueError(f"packed planes are {have}; want (frames, {self.layout.packed_bytes}) uint8")

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "Planes":
        """The same planes on another device; the indices stay on the host."""
        return replace(self, packed=self.packed.to(device, non_blocking=non_blocking))


def rgb_of(packed_u8: Tensor, layout: PictureLayout) -> Tensor:
    """Planes to colours, as libswscale turns 8-bit 4:2:0 into 24-bit RGB on x86 with its default flags.

    One chroma sample colours 2 × 2 pixels. Levels have 3 bits after the point and factors 13; each product is rounded
    down to whole levels before they are added. All whole numbers, so equal to it for every triple of levels.
    Args: packed_u8: (frames, packed bytes) uint8. Returns: (frames, 3, height, width) uint8 on the same device.
    """
    red_share, blue_share = RED_AND_BLUE_SHARE[layout.matrix]
    green_share = 1 - red_share - blue_share
    luma_gain, chroma_gain = (1.0, 1.0) if layout.is_full_range else (FULL_STEPS / LUMA_STEPS, FULL_STEPS / CHROMA_STEPS)
    red_gain, blue_gain = 2 * (1 - red_share) * chroma_gain, 2 * (1 - blue_share) * chroma_gain

    half_height, half_width = layout.height // 2, layout.width // 2
    parts = packed_u8.split([layout.height * layout.width, half_height * half_width, half_height * half_width], dim=1)
    luma = _scaled(parts[0], 0 if layout.is_full_range else BLACK, luma_gain).view(-1, half_height, 2, half_width, 2)
    blue, red = (part.reshape(-1, half_height, 1, half_width, 1) for part in parts[1:])
    tints = (
        _scaled(red, GREY, red_gain),
        _scaled(blue, GREY, -blue_gain * blue_share / green_share) + _scaled(red, GREY, -red_gain * red_share / green_share),
        _scaled(blue, GREY, blue_gain),
    )
    rgb = [(luma + tint).clamp_(0, 255).to(torch.uint8).view(-1, layout.height, layout.width) for tint in tints]
    return torch.stack(rgb, dim=1)


def _scaled(levels_u8: Tensor, zero: int, gain: float) -> Tensor:
    """(levels - zero) · gain in whole levels, rounded down, as int32."""
    factor = round(gain * 2**FACTOR_BITS)
    return (levels_u8.to(torch.int32) - zero).mul_(factor << LEVEL_BITS).bitwise_right_shift_(LEVEL_BITS + FACTOR_BITS)


def _scene_taps(layout: PictureLayout) -> tuple[Taps, Taps]:
    down, across = (taps_of(Cut(side, CLIP_SIDE_PX, 0, CLIP_SIDE_PX)) for side in (layout.height, layout.width))
    return down, across


def _sync_taps(layout: PictureLayout) -> tuple[Taps, Taps]:
    """The shorter side to 224; only the middle 224 of the longer one is computed."""
    sides = (layout.height, layout.width)
    resized = [int(SYNC_SIDE_PX * side / min(sides)) for side in sides]
    cuts = [Cut(side, to, round((to - SYNC_SIDE_PX) / 2), SYNC_SIDE_PX) for side, to in zip(sides, resized, strict=True)]
    return taps_of(cuts[0]), taps_of(cuts[1])


def _shown(planes: Planes, index: Tensor, taps: tuple[Taps, Taps]) -> Tensor:
    """Each source frame of a stream resized once, some at a time, then shown where the index says."""
    used, places = index.unique(return_inverse=True)
    num_at_once = max(1, PIXELS_AT_ONCE // prod((planes.layout.height, planes.layout.width)))
    device = planes.packed.device
    pieces = [resize(rgb_of(planes.packed[some.to(device)], planes.layout), *taps) for some in used.split(num_at_once)]
    return torch.cat(pieces)[places.to(device)]


def scene_frames(planes: Planes) -> Tensor:
    """What `transforms.scene_frame` gives of each: (frames, 3, 384, 384) uint8 RGB on the planes' device."""
    return _shown(planes, planes.scene_index, _scene_taps(planes.layout))


def sync_frames(planes: Planes) -> Tensor:
    """What `transforms.sync_frame` gives of each: (frames, 3, 224, 224) uint8 RGB on the planes' device."""
    return _shown(planes, planes.sync_index, _sync_taps(planes.layout))
