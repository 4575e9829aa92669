"""Frames sized from YUV planes on any device.

Each product is a sum of whole numbers that float32 holds exactly, whatever order and whatever reduced precision (TF32,
bfloat16) the process allows for products: weights are 16-bit whole numbers, taken apart into two of 8 bits each.
"""

from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor

from mmaudio.base.specs import CLIP_SIDE_PX, SYNC_SIDE_PX

SHARPNESS = -0.5  # the cubic's `a`
CUBIC_REACH = 2  # of the cubic on each side, in pixels of the coarser side
WEIGHT_BITS = 16  # with the sign
MAX_PRECISION_BITS = 22


@dataclass(frozen=True)
class Cut:
    """One axis: resize `source_px` to `resized_px`, keep `kept_px` of these from `first_px` on."""

    source_px: int
    resized_px: int
    first_px: int
    kept_px: int


@dataclass(frozen=True)
class Taps:
    """The weights of one axis: output n is the sum of levels[first + k] · weights[n, k] / 2^precision_bits.

    `weights` is (kept, reached source pixels) int32; a row is zero where its output does not reach.
    """

    first: int
    weights: Tensor
    precision_bits: int

    def taken_apart(self, device: torch.device) -> Tensor:
        """(2 · kept, reached) float32: the upper bytes in [-128, 127], after them the lower ones in [0, 255]."""
        return torch.cat([self.weights >> 8, self.weights & 255]).to(device, torch.float32)


def _cubic(distance: Tensor) -> Tensor:
    """Keys 1981, eq. 4, with a = -0.5 (eq. 15); 0 from a distance of 2 on."""
    a, x = SHARPNESS, distance.abs()
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return torch.where(x < 1, near, torch.where(x < CUBIC_REACH, far, 0.0))


def taps_of(cut: Cut) -> Taps:
    """Weights of one axis. When shrinking, the cubic is stretched by the ratio, so that nothing finer than the result can show is left.

    They are rounded to as many bits as their largest fits, in 16 with the sign, as Pillow and PyTorch do for 8-bit images.
    Raises: ValueError if what is kept does not lie within what is resized.
    """
    if min(cut.source_px, cut.kept_px) < 1 or cut.first_px < 0 or cut.first_px + cut.kept_px > cut.resized_px:
        raise ValueError(f"{cut}: want at least one pixel, kept from within the {cut.resized_px} resized ones")
    ratio = cut.source_px / cut.resized_px
    stretch = max(ratio, 1.0)
    centre = ratio * (torch.arange(cut.resized_px, dtype=torch.float64)[:, None] + 0.5)  # all, for the largest weight is among all
    low = (centre - CUBIC_REACH * stretch + 0.5).floor().clamp(min=0)
    high = (centre + CUBIC_REACH * stretch + 0.5).floor().clamp(max=cut.source_px)
    pixel = torch.arange(cut.source_px, dtype=torch.float64)
    real = _cubic((pixel - centre + 0.5) / stretch) * ((pixel >= low) & (pixel < high))
    real = real / real.sum(dim=1, keepdim=True)
    bits = _precision_bits(real.max().item())
    whole = (real.abs() * 2**bits + 0.5).floor().to(torch.int32) * real.sign().to(torch.int32)  # halves away from 0
    kept = whole[cut.first_px : cut.first_px + cut.kept_px]
    reached = kept.any(dim=0).nonzero()[:, 0]
    first, last = int(reached[0]), int(reached[-1])
    return Taps(first, kept[:, first : last + 1], bits)


def _precision_bits(largest: float) -> int:
    """The most bits after the point with which this weight is still a 16-bit whole number."""
    bits = 0
    while bits < MAX_PRECISION_BITS and int(largest * 2 ** (bits + 1) + 0.5) < 2 ** (WEIGHT_BITS - 1):
        bits += 1
    return bits


def _levels(sums: Tensor, dim: int, precision_bits: int) -> Tensor:
    """Sums of the upper and, after them along `dim`, of the lower bytes, to levels of 0 … 255; float32, for the next product."""
    upper, lower = (half.to(torch.int32) for half in sums.chunk(2, dim))
    rounded = upper.mul_(256).add_(lower).add_(1 << (precision_bits - 1)).bitwise_right_shift_(precision_bits)
    return rounded.clamp_(0, 255).to(torch.float32)


def resize(levels_u8: Tensor, down: Taps, across: Taps) -> Tensor:
    """Resize and cut pictures: rows are first brought to their width, and rounded to levels, then columns to their height.

    Args:
        levels_u8: (..., height, width) uint8, of any device.
        down, across: the weights of the height and of the width.
    Returns: (..., kept height, kept width) uint8 on the same device.
    Source: data.md section 7; the order and the rounding between are those of 8-bit images in Pillow and PyTorch.
    """
    device, num_rows, num_columns = levels_u8.device, down.weights.shape[1], across.weights.shape[1]
    reached = levels_u8[..., down.first : down.first + num_rows, across.first : across.first + num_columns].to(torch.float32)
    rows = _levels(reached @ across.taken_apart(device).T, -1, across.precision_bits)
    return _levels(down.taken_apart(device) @ rows, -2, down.precision_bits).to(torch.uint8)


# ---- From decoded pictures, as they leave the decoder, to the frames of both encoders

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
