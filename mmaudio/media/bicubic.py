"""Bicubic resizing with antialiasing as matrix products: the levels the host's uint8 resize gives, on any device.

Each product is a sum of whole numbers that float32 holds exactly, whatever order and whatever reduced precision (TF32,
bfloat16) the process allows for products: weights are 16-bit whole numbers, taken apart into two of 8 bits each.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

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
