"""Synchformer's comparison head: by how much sound and picture are apart, as logits over 21 offsets (Iashin et al. 2024, 2401.16423).

A small transformer reads the vectors of both branches over 14 segments, which is 4.8 s. Modules carry the names of the published file.

Axes: b pair, s segment, t token, h head, c channel.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmaudio.base.specs import SYNC_AUDIO_TOKENS_PER_SEGMENT, SYNC_TOKENS_PER_SEGMENT, SYNC_WIDTH
from mmaudio.files.tensor_files import load_part

GROUPS = ("vproj.", "aproj.", "transformer.")
HEAD_SEGMENTS = 14  # the position table fixes it
NUM_OFFSETS = 21  # from -2 s to 2 s
DEPTH = 3
NUM_HEADS = 8
MLP_WIDTH = 4 * SYNC_WIDTH
NUM_PLACES = 2 + HEAD_SEGMENTS * (SYNC_TOKENS_PER_SEGMENT + SYNC_AUDIO_TOKENS_PER_SEGMENT)


def by_segment(tokens_btc: Tensor) -> Tensor:
    """What the visual branch gives, (b, segments · 8, 768), by segment: (b, segments, 8, 768), a view.

    Raises: ValueError for a number of vectors that is no multiple of 8.
    """
    if tokens_btc.ndim != 3 or tokens_btc.shape[1] % SYNC_TOKENS_PER_SEGMENT:
        raise ValueError(f"vectors have shape {tuple(tokens_btc.shape)}; want (clips, segments x {SYNC_TOKENS_PER_SEGMENT}, {SYNC_WIDTH})")
    return tokens_btc.unflatten(1, (-1, SYNC_TOKENS_PER_SEGMENT))


class HeadAttention(nn.Module):
    """Every token attends to all."""

    def __init__(self) -> None:
        super().__init__()
        self.key = nn.Linear(SYNC_WIDTH, SYNC_WIDTH)
        self.query = nn.Linear(SYNC_WIDTH, SYNC_WIDTH)
        self.value = nn.Linear(SYNC_WIDTH, SYNC_WIDTH)
        self.proj = nn.Linear(SYNC_WIDTH, SYNC_WIDTH)

    def forward(self, x_btc: Tensor) -> Tensor:
        q, k, v = (linear(x_btc).unflatten(-1, (NUM_HEADS, -1)).transpose(1, 2) for linear in (self.query, self.key, self.value))
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class HeadBlock(nn.Module):
    """Attention, then the MLP with the exact (erf) GELU; each on normalised tokens and added."""

    def __init__(self) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(SYNC_WIDTH)
        self.ln2 = nn.LayerNorm(SYNC_WIDTH)
        self.attn = HeadAttention()
        self.mlp = nn.Sequential(nn.Linear(SYNC_WIDTH, MLP_WIDTH), nn.GELU(), nn.Linear(MLP_WIDTH, SYNC_WIDTH))

    def forward(self, x_btc: Tensor) -> Tensor:
        x_btc = x_btc + self.attn(self.ln1(x_btc))
        return x_btc + self.mlp(self.ln2(x_btc))


class PositionTable(nn.Module):
    """The position table, under its published name."""

    def __init__(self) -> None:
        super().__init__()
        self.pos_emb = nn.Parameter(torch.zeros(1, NUM_PLACES, SYNC_WIDTH))


class OffsetTransformer(nn.Module):
    """Projected vectors of picture (b, 112, c) and sound (b, 84, c) → logits (b, 21)."""

    def __init__(self) -> None:
        super().__init__()
        self.OFF_tok = nn.Parameter(torch.zeros(1, 1, SYNC_WIDTH))
        self.MOD_tok = nn.Parameter(torch.zeros(1, 1, SYNC_WIDTH))
        self.vis_in_lnorm = nn.LayerNorm(SYNC_WIDTH)
        self.aud_in_lnorm = nn.LayerNorm(SYNC_WIDTH)
        self.pos_emb_cfg = PositionTable()
        self.blocks = nn.Sequential(*(HeadBlock() for _ in range(DEPTH)))
        self.ln_f = nn.LayerNorm(SYNC_WIDTH)
        self.off_head = nn.Linear(SYNC_WIDTH, NUM_OFFSETS)

    def forward(self, video_btc: Tensor, audio_btc: Tensor) -> Tensor:
        offset, between = (token.expand(len(video_btc), -1, -1) for token in (self.OFF_tok, self.MOD_tok))
        x_btc = torch.cat((offset, self.vis_in_lnorm(video_btc), between, self.aud_in_lnorm(audio_btc)), dim=1)
        x_btc = self.blocks(x_btc + self.pos_emb_cfg.pos_emb)
        return self.off_head(self.ln_f(x_btc[:, 0]))


class SyncHead(nn.Module):
    """Vectors of both branches over 14 segments → logits over the offsets from -2 s to 2 s in steps of 0.2 s."""

    def __init__(self) -> None:
        super().__init__()
        self.vproj = nn.Linear(SYNC_WIDTH, SYNC_WIDTH)
        self.aproj = nn.Linear(SYNC_WIDTH, SYNC_WIDTH)
        self.transformer = OffsetTransformer()

    def forward(self, video: Tensor, audio: Tensor) -> Tensor:
        """Compare.

        Args:
            video: (b, 14, 8, 768), the visual branch by segment.
            audio: (b, 14, 6, 768), the audio branch.
        Returns: (b, 21); index 10 is in sync.
        Raises: ValueError for other shapes.
        """
        widths = (SYNC_TOKENS_PER_SEGMENT, SYNC_AUDIO_TOKENS_PER_SEGMENT)
        want = [(len(video), HEAD_SEGMENTS, per_segment, SYNC_WIDTH) for per_segment in widths]
        if [tuple(video.shape), tuple(audio.shape)] != want:
            raise ValueError(f"vectors of video {tuple(video.shape)} and audio {tuple(audio.shape)}; want {want[0]} and {want[1]}")
        return self.transformer(self.vproj(video).flatten(1, 2), self.aproj(audio).flatten(1, 2))


def load_sync_head(state_dict: Mapping[str, Tensor]) -> SyncHead:
    """Synchformer's comparison head with the weights of the published file, as `load_part`."""
    return load_part(SyncHead, state_dict, GROUPS, "Synchformer's comparison head")
