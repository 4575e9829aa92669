"""Convolutions over tokens, gated MLP, time embedding, rotary positions.

Axes: b batch, n token, d hidden channel, c input channel.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MLP_MULTIPLE = 256  # gated MLPs round their width up to a multiple of this


class TokenConv1d(nn.Conv1d):
    """A convolution over the token axis of (batch, tokens, channels); the token count stays the same."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, kernel, padding=(kernel - 1) // 2, bias=bias)

    def forward(self, x_bnc: Tensor) -> Tensor:
        return super().forward(x_bnc.transpose(1, 2)).transpose(1, 2)


def token_map(in_channels: int, out_channels: int, kernel: int, bias: bool = True) -> nn.Module:
    """A linear map of each token and its kernel − 1 neighbours: a plain Linear where the kernel is 1."""
    if kernel == 1:
        return nn.Linear(in_channels, out_channels, bias=bias)
    return TokenConv1d(in_channels, out_channels, kernel, bias)


class GatedMLP(nn.Module):
    """w2(silu(w1 x) · w3 x) without biases (SwiGLU, Shazeer 2020, arXiv 2002.05202), over `kernel` tokens."""

    def __init__(self, width: int, nominal_width: int, kernel: int = 1) -> None:
        super().__init__()
        inner = MLP_MULTIPLE * math.ceil(int(2 * nominal_width / 3) / MLP_MULTIPLE)
        self.w1 = token_map(width, inner, kernel, bias=False)
        self.w2 = token_map(inner, width, kernel, bias=False)
        self.w3 = token_map(width, inner, kernel, bias=False)

    def forward(self, x_bnd: Tensor) -> Tensor:
        return self.w2(F.silu(self.w1(x_bnd)) * self.w3(x_bnd))


class TimeEmbedding(nn.Module):
    """A flow time in [0, 1] as a vector of the hidden width.

    The frequencies are formed anew at each call, in float32 and in exactly this order of operations: v2 has phases up
    to 10^4 rad, where one rounding step of a frequency is visible, and a buffer would be rounded by a whole-model cast.
    """

    def __init__(self, width: int, num_sinusoids: int, multiplier: float) -> None:
        super().__init__()
        self.num_sinusoids = num_sinusoids
        self.multiplier = multiplier
        self.mlp = nn.Sequential(nn.Linear(num_sinusoids, width), nn.SiLU(), nn.Linear(width, width))

    def sinusoids(self, t_b: Tensor) -> Tensor:
        """Cosines, then sines, of t · frequency: (batch, num_sinusoids), in the dtype of t."""
        pair = torch.arange(0, self.num_sinusoids, 2, device=t_b.device, dtype=torch.float32) / self.num_sinusoids
        frequency = self.multiplier * (1.0 / 10_000.0**pair)
        phase = t_b.float()[:, None] * frequency[None, :]
        return torch.cat((phase.cos(), phase.sin()), dim=-1).to(t_b.dtype)

    def forward(self, t_b: Tensor) -> Tensor:
        return self.mlp(self.sinusoids(t_b))


def input_projection(in_channels: int, width: int, *, kernel: int, mlp_kernel: int, activation: nn.Module | None) -> nn.Sequential:
    """Raw features to tokens of the hidden width: a linear map, perhaps an activation, a gated MLP without residual."""
    layers = [token_map(in_channels, width, kernel), activation, GatedMLP(width, 4 * width, mlp_kernel)]
    return nn.Sequential(*(layer for layer in layers if layer is not None))


# ---- Rotary position embedding of queries and keys (Su et al. 2021, arXiv 2104.09864), on adjacent channel pairs

THETA = 10_000.0


def rotation_table(num_tokens: int, head_width: int, scale: float = 1.0, device: torch.device | None = None) -> Tensor:
    """Cosine and sine of every (token, pair): (tokens, head_width / 2, 2), float32.

    `scale` stretches the frequencies, not the positions: a stream of fewer tokens over the same duration uses
    scale = longer / shorter, so that simultaneous tokens have the same phase.
    """
    pair = torch.arange(0, head_width, 2, device=device, dtype=torch.float32) / head_width
    frequency = scale * (1.0 / THETA**pair)
    phase_np = torch.arange(num_tokens, device=device, dtype=torch.float32)[:, None] * frequency[None, :]
    return torch.stack((phase_np.cos(), phase_np.sin()), dim=-1)


def rotate(x_bhnd: Tensor, table_np2: Tensor) -> Tensor:
    """Rotate each channel pair of each token by its phase, in float32 at least; the result has the dtype of the input."""
    wide = torch.promote_types(x_bhnd.dtype, torch.float32)
    even, odd = x_bhnd.to(wide).unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = table_np2.float().unbind(-1)
    rotated = torch.stack((cos * even - sin * odd, sin * even + cos * odd), dim=-1)
    return rotated.flatten(-2).to(x_bhnd.dtype)
