"""The anti-aliased periodic activation of BigVGAN (Lee et al. 2023, arXiv 2206.04658, section 3): twice the rate, snake, back.

Axes: b batch, c channel, t time step, r row: one channel of one item.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmaudio.codec.published_weights import Float32Values

NUM_TAPS = 12
CUTOFF, HALF_WIDTH = 0.25, 0.3  # of the low-pass filter, in cycles per sample at twice the rate
REACH = 3  # time steps that half a filter sees on either side
SNAKE_EPSILON = 1e-9
# The arithmetic runs on as many rows at once as keep its intermediates in a CPU's cache, or within a few hundred MB elsewhere.
CPU_BLOCK_ELEMENTS, BLOCK_ELEMENTS = 2**17, 2**26


def kaiser_taps() -> Tensor:
    """The low-pass filter: a sinc under a Kaiser window (Kaiser 1974), taps that sum to 1, (12,)."""
    attenuation_db = 2.285 * (NUM_TAPS // 2 - 1) * math.pi * 4 * HALF_WIDTH + 7.95
    beta = 0.1102 * (attenuation_db - 8.7)  # Kaiser's rule above 50 dB
    time = np.arange(NUM_TAPS) - (NUM_TAPS - 1) / 2
    taps = np.kaiser(NUM_TAPS, beta) * np.sinc(2 * CUTOFF * time)
    return torch.tensor((taps / taps.sum()).tolist(), dtype=torch.float32)


class Lowpass(Float32Values):
    """A filter as the files hold it."""

    filter: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("filter", kaiser_taps()[None, None])


class Decimator(nn.Module):
    """The filter of the way down, one name deeper than that of the way up."""

    def __init__(self) -> None:
        super().__init__()
        self.lowpass = Lowpass()


class Snake(Float32Values):
    """x + sin²(a x) / (a + 1e-9) with a per channel (Ziyin et al. 2020, arXiv 2006.08195, eq. 3)."""

    def __init__(self, num_channels: int, log_scale: bool) -> None:
        super().__init__()
        self.log_scale = log_scale
        self.alpha = nn.Parameter(torch.zeros(num_channels) if log_scale else torch.ones(num_channels))

    def scaled(self, values_c: Tensor) -> Tensor:
        return values_c.exp() if self.log_scale else values_c

    def coefficients(self) -> tuple[Tensor, Tensor]:
        """Of each channel, the frequency a and the height of the ripple, 1 / (a + 1e-9)."""
        frequency_c = self.scaled(self.alpha)
        return frequency_c, 1.0 / (frequency_c + SNAKE_EPSILON)


class SnakeBeta(Snake):
    """x + sin²(a x) / (b + 1e-9): the height is a parameter of its own."""

    def __init__(self, num_channels: int, log_scale: bool) -> None:
        super().__init__(num_channels, log_scale)
        self.beta = nn.Parameter(self.alpha.detach().clone())

    def coefficients(self) -> tuple[Tensor, Tensor]:
        return self.scaled(self.alpha), 1.0 / (self.scaled(self.beta) + SNAKE_EPSILON)


ACTIVATIONS = {"snake": Snake, "snakebeta": SnakeBeta}


def snake_(x: Tensor, frequency: Tensor, height: Tensor) -> Tensor:
    """x + height · sin²(frequency · x), in place of x."""
    return x.addcmul_((x * frequency).sin_().square_(), height)


def correlate(x_rt: Tensor, taps: Tensor) -> Tensor:
    """Correlation over time, without padding: (r, t) → (r, t − taps + 1).

    A sum of shifted copies: for a few taps shared by all rows it is several times as fast as a grouped convolution.
    """
    num_steps = x_rt.shape[-1] - len(taps) + 1
    first, *others = taps.unbind()
    total_rt = x_rt[:, :num_steps] * first
    for shift, tap in enumerate(others, 1):
        total_rt.addcmul_(x_rt[:, shift : shift + num_steps], tap)
    return total_rt


def upsampled(x_rt: Tensor, taps: Tensor) -> tuple[Tensor, Tensor]:
    """The even and the odd time steps of x at twice the rate, from 3 steps before its first to 3 after its last: (r, t + 6) each.

    The zeros between samples at the doubled rate meet every second tap, so each half is a correlation with six of them. Past
    its ends x goes on with its last values.
    """
    padded_rt = F.pad(x_rt, (2 * REACH, 2 * REACH), mode="replicate")
    reversed_taps = 2.0 * taps.flip(0)
    return correlate(padded_rt[:, :-1], reversed_taps[0::2]), correlate(padded_rt[:, 1:], reversed_taps[1::2])


def hold_ends_(even_rt: Tensor, odd_rt: Tensor) -> None:
    """Overwrite the 3 steps past either end with the first and the last value of the doubled rate."""
    first_r1, last_r1 = even_rt[:, REACH : REACH + 1].clone(), odd_rt[:, -REACH - 1 : -REACH].clone()
    for half_rt in (even_rt, odd_rt):
        half_rt[:, :REACH] = first_r1
        half_rt[:, -REACH:] = last_r1


def downsampled(even_rt: Tensor, odd_rt: Tensor, taps: Tensor) -> Tensor:
    """Back to the single rate: halves with 3 steps more at either end, (r, t + 6) each → (r, t)."""
    return correlate(even_rt[:, 1:], taps[1::2]).add_(correlate(odd_rt[:, :-1], taps[0::2]))


class AntiAliased(nn.Module):
    """An activation at twice the rate, so that the overtones it makes are cut off instead of folded back: (b, c, t) → the same.

    The inside is float32 for any type of input. Doubled-rate signals are kept as two halves, even and odd steps.
    """

    def __init__(self, act: Snake) -> None:
        super().__init__()
        self.act = act
        self.upsample = Lowpass()
        self.downsample = Decimator()

    def activate(self, x_rt: Tensor, frequency_r1: Tensor, height_r1: Tensor) -> Tensor:
        even_rt, odd_rt = upsampled(x_rt.float(), self.upsample.filter.flatten())
        snake_(even_rt, frequency_r1, height_r1)
        snake_(odd_rt, frequency_r1, height_r1)
        hold_ends_(even_rt, odd_rt)
        return downsampled(even_rt, odd_rt, self.downsample.lowpass.filter.flatten())

    def forward(self, x_bct: Tensor) -> Tensor:
        x_rt = x_bct.flatten(0, 1)
        frequency_r1, height_r1 = (values_c.repeat(x_bct.shape[0])[:, None] for values_c in self.act.coefficients())
        block_elements = CPU_BLOCK_ELEMENTS if x_bct.is_cpu and not torch.compiler.is_compiling() else BLOCK_ELEMENTS
        num_rows = max(1, block_elements // x_rt.shape[-1])
        active_rt = torch.empty_like(x_rt)
        for start in range(0, len(x_rt), num_rows):
            rows = slice(start, start + num_rows)
            active_rt[rows] = self.activate(x_rt[rows], frequency_r1[rows], height_r1[rows])
        return active_rt.view_as(x_bct)
