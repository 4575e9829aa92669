"""Layers that keep the magnitude of what passes through them (Karras et al. 2024, arXiv 2312.02696, appendix B), in one dimension.

Axes: b batch, c channel, t time.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

RMS_EPSILON = 1e-4
SILU_MAGNITUDE = 0.596  # root mean square of x · sigmoid(x) over unit normal x
BRANCH_SHARE = 0.3  # of the residual branch in a sum


def normalise(x: Tensor, dims: int | tuple[int, ...]) -> Tensor:
    """Divide by (1e-4 + root mean square over `dims`); the mean is taken in float32, the result has the type of x."""
    norm = torch.linalg.vector_norm(x, dim=dims, keepdim=True, dtype=torch.float32)
    return x / (RMS_EPSILON + norm * math.sqrt(norm.numel() / x.numel())).to(x.dtype)


def mp_silu(x: Tensor) -> Tensor:
    """SiLU, scaled so that unit normal input keeps its magnitude (eq. 81)."""
    return F.silu(x) / SILU_MAGNITUDE


def mp_sum(a: Tensor, b: Tensor, share_b: float = BRANCH_SHARE) -> Tensor:
    """A weighted sum that keeps the magnitude of independent terms (eq. 88)."""
    return torch.lerp(a, b, share_b) / math.hypot(1.0 - share_b, share_b)


def normalise_weight(raw_ock: Tensor) -> Tensor:
    """The weight that `MPConv1d` computes with, from the published raw one: (out, in, kernel), new, float32 (eq. 47).

    To be applied exactly once: the epsilon makes a second time differ, by 0.7 % for a fan-in of 4608.
    """
    return normalise(raw_ock.float(), (1, 2)).div_(math.sqrt(raw_ock[0].numel()))


def is_normalised(weight_ock: Tensor) -> bool:
    """Whether a weight has been through `normalise_weight`: then its rows have length 1 but for the epsilon, which no raw one has."""
    length_o = torch.linalg.vector_norm(weight_ock, dim=(1, 2), dtype=torch.float32)
    return bool(length_o.amin() > 0.99 and length_o.amax() < 1.0 + 1e-5)


class MPConv1d(nn.Module):
    """A convolution without bias that keeps the length. Its weight is to be given normalised: it starts out empty."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel))

    def forward(self, x_bct: Tensor, gain: Tensor | float | None = None) -> Tensor:
        weight = self.weight if gain is None else self.weight * gain
        return F.conv1d(x_bct, weight, padding=weight.shape[-1] // 2)


class ResnetBlock1d(nn.Module):
    """Two convolutions of width 3 beside a shortcut, on input normalised at each time step."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = MPConv1d(in_channels, out_channels, 3)
        self.conv2 = MPConv1d(out_channels, out_channels, 3)
        self.nin_shortcut = MPConv1d(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()

    def forward(self, x_bct: Tensor) -> Tensor:
        x_bct = normalise(x_bct, 1)
        branch = self.conv2(mp_silu(self.conv1(mp_silu(x_bct))))
        return mp_sum(self.nin_shortcut(x_bct), branch)


class AttnBlock1d(nn.Module):
    """Attention of one head over time, queries, keys and values of unit magnitude; their channels are interleaved."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.qkv = MPConv1d(channels, 3 * channels, 1)
        self.proj_out = MPConv1d(channels, channels, 1)

    def forward(self, x_bct: Tensor) -> Tensor:
        roles_bc3t = self.qkv(x_bct).unflatten(1, (-1, 3))
        query, key, value = normalise(roles_bc3t, 1).permute(2, 0, 3, 1)[:, :, None]  # each (b, 1 head, t, c)
        seen_bct = F.scaled_dot_product_attention(query, key, value)[:, 0].transpose(1, 2)
        return mp_sum(x_bct, self.proj_out(seen_bct))


class Downsample1d(nn.Module):
    """Half the time steps: the mean of each pair, an odd last one dropped, between two maps of the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = MPConv1d(channels, channels, 1)
        self.conv2 = MPConv1d(channels, channels, 1)

    def forward(self, x_bct: Tensor) -> Tensor:
        return self.conv2(F.avg_pool1d(self.conv1(x_bct), 2))


class Upsample1d(nn.Module):
    """Every time step twice, then a convolution of width 3."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = MPConv1d(channels, channels, 3)

    def forward(self, x_bct: Tensor) -> Tensor:
        return self.conv(x_bct.repeat_interleave(2, dim=-1))
