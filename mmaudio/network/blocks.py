"""Transformer blocks: one stream modulated by a condition, three streams under one attention, and the final layer.

Axes: b batch, h head, n token, s row of a modulator, d hidden channel.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmaudio.network.layers import GatedMLP, TokenConv1d, rotate, token_map

NORM_EPS = 1e-5
HEAD_NORM_EPS = 1.1920929e-07  # float32's machine epsilon, whatever the input's dtype
STREAM_KERNEL = 3


@dataclass(frozen=True)
class AttentionInputs:
    """Queries, keys and values, each (batch, heads, tokens, head width)."""

    q_bhnd: Tensor
    k_bhnd: Tensor
    v_bhnd: Tensor


def attend(streams: list[AttentionInputs]) -> list[Tensor]:
    """One softmax attention over the tokens of all streams together; each stream's own output, (b, n, heads · d)."""
    lengths = [stream.q_bhnd.shape[2] for stream in streams]
    q, k, v = (torch.cat([getattr(s, name) for s in streams], dim=2) for name in ("q_bhnd", "k_bhnd", "v_bhnd"))
    out_bhnd = F.scaled_dot_product_attention(q, k, v)
    return list(out_bhnd.transpose(1, 2).flatten(2).split(lengths, dim=1))


class AttentionProjection(nn.Module):
    """Tokens to normalised queries, keys and values. The innermost channel axis of `qkv` selects q, k or v."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.q_norm = nn.RMSNorm(width // num_heads, eps=HEAD_NORM_EPS)
        self.k_norm = nn.RMSNorm(width // num_heads, eps=HEAD_NORM_EPS)

    def forward(self, x_bnd: Tensor, rotation: Tensor | None) -> AttentionInputs:
        q, k, v = self.qkv(x_bnd).unflatten(-1, (self.num_heads, -1, 3)).transpose(1, 2).unbind(-1)
        q, k = self.q_norm(q), self.k_norm(k)
        if rotation is not None:
            q, k = rotate(q, rotation), rotate(k, rotation)
        return AttentionInputs(q, k, v)


@dataclass(frozen=True)
class Modulator:
    """What modulates a stream: vectors (b, s, d), and which of them each token takes, (n,) int64; None: the only one.

    Several tokens take the same vector, so what follows from a vector alone is computed before it is taken.
    """

    c_bsd: Tensor
    row_n: Tensor | None = None


class Modulation(nn.Sequential):
    """Shifts, scales and gates (adaLN, Peebles and Xie 2022, arXiv 2212.09748): `num`, each (b, n, d) or (b, 1, d)."""

    def __init__(self, width: int, num: int) -> None:
        super().__init__(nn.SiLU(), nn.Linear(width, num * width))
        self.num = num

    def forward(self, by: Modulator) -> tuple[Tensor, ...]:
        all_bsd = super().forward(by.c_bsd)
        if by.row_n is not None:
            all_bsd = all_bsd.index_select(1, by.row_n)
        return all_bsd.chunk(self.num, dim=-1)


def modulate(x_bnd: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Layer-normalise without learned scale, then scale and shift by the condition."""
    return F.layer_norm(x_bnd, x_bnd.shape[-1:], eps=NORM_EPS) * (1 + scale) + shift


class StreamBlock(nn.Module):
    """One stream's part of a block: what goes into the attention, and what is made of what comes out.

    `kernel` 3 mixes neighbouring tokens outside the attention too (latent, clip), 1 does not (text). A block with
    `feeds_only` hands its tokens to the others' attention and leaves its own stream as it is.
    """

    def __init__(self, width: int, num_heads: int, mlp_ratio: float, *, kernel: int = STREAM_KERNEL, feeds_only: bool = False) -> None:
        super().__init__()
        self.feeds_only = feeds_only
        self.attn = AttentionProjection(width, num_heads)
        if not feeds_only:
            self.linear1 = token_map(width, width, kernel)
            self.ffn = GatedMLP(width, int(width * mlp_ratio), kernel)
        self.adaLN_modulation = Modulation(width, 2 if feeds_only else 6)

    def before_attention(self, x_bnd: Tensor, by: Modulator, rotation: Tensor | None) -> tuple[AttentionInputs, tuple[Tensor, ...]]:
        """The attention's inputs, and the parts of the modulation that `after_attention` needs."""
        shift, scale, *rest = self.adaLN_modulation(by)
        return self.attn(modulate(x_bnd, shift, scale), rotation), tuple(rest)

    def after_attention(self, x_bnd: Tensor, attended_bnd: Tensor, rest: tuple[Tensor, ...]) -> Tensor:
        if self.feeds_only:
            return x_bnd
        gate, ffn_shift, ffn_scale, ffn_gate = rest
        x_bnd = x_bnd + self.linear1(attended_bnd) * gate
        return x_bnd + self.ffn(modulate(x_bnd, ffn_shift, ffn_scale)) * ffn_gate

    def forward(self, x_bnd: Tensor, by: Modulator, rotation: Tensor | None) -> Tensor:
        """The block on its own: self-attention of one stream."""
        inputs, rest = self.before_attention(x_bnd, by, rotation)
        return self.after_attention(x_bnd, attend([inputs])[0], rest)


class Streams(NamedTuple):
    """The three token streams, each (batch, its tokens, d)."""

    latent: Tensor
    clip: Tensor
    text: Tensor


class JointBlock(nn.Module):
    """Latent, clip and text tokens under one attention, each with weights of its own (MM-DiT, Esser et al. 2024)."""

    def __init__(self, width: int, num_heads: int, mlp_ratio: float, *, is_last: bool) -> None:
        super().__init__()
        self.latent_block = StreamBlock(width, num_heads, mlp_ratio)
        self.clip_block = StreamBlock(width, num_heads, mlp_ratio, feeds_only=is_last)
        self.text_block = StreamBlock(width, num_heads, mlp_ratio, kernel=1, feeds_only=is_last)

    def forward(self, x: Streams, by: Modulator, latent_by: Modulator, latent_rotation: Tensor, clip_rotation: Tensor) -> Streams:
        latent_in, latent_rest = self.latent_block.before_attention(x.latent, latent_by, latent_rotation)
        clip_in, clip_rest = self.clip_block.before_attention(x.clip, by, clip_rotation)
        text_in, text_rest = self.text_block.before_attention(x.text, by, None)
        latent, clip, text = attend([latent_in, clip_in, text_in])
        return Streams(
            latent=self.latent_block.after_attention(x.latent, latent, latent_rest),
            clip=self.clip_block.after_attention(x.clip, clip, clip_rest),
            text=self.text_block.after_attention(x.text, text, text_rest),
        )


class FinalLayer(nn.Module):
    """Latent tokens to the velocity."""

    def __init__(self, width: int, latent_channels: int) -> None:
        super().__init__()
        self.adaLN_modulation = Modulation(width, 2)
        self.conv = TokenConv1d(width, latent_channels, 7)

    def forward(self, x_bnd: Tensor, by: Modulator) -> Tensor:
        shift, scale = self.adaLN_modulation(by)
        return self.conv(modulate(x_bnd, shift, scale))
