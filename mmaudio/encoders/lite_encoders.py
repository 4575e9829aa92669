"""The weight-free encoders of frames and text.

Axes: b batch, t scene frame, f sync frame, g segment, y and x grid row and column, c feature channel.
"""

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmaudio.base.specs import (
    CLIP_WIDTH,
    SYNC_SEGMENT_FRAMES,
    SYNC_SEGMENT_STEP,
    SYNC_TOKENS_PER_SEGMENT,
    SYNC_WIDTH,
    TEXT_TOKENS,
    TEXT_WIDTH,
)
from mmaudio.encoders.clip import tokenize

GRID = 8  # cells along each side
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
NUM_ORIENTATIONS = 8
EDGE_GAIN = 4.0
MOTION_GAIN = 4.0
FRAMES_PER_TOKEN = 2
NUM_DIFFERENCES = SYNC_WIDTH // GRID**2 - FRAMES_PER_TOKEN  # frame differences a token sees around its own two frames


def _luminance(frames_u8: Tensor) -> Tensor:
    """(…, 3, h, w) uint8 → (…, h, w) float32 in [0, 1]."""
    weights = torch.tensor(LUMA, device=frames_u8.device)[:, None, None] / 255.0
    return (frames_u8.float() * weights).sum(dim=-3)


def _pool(maps: Tensor) -> Tensor:
    """Average (…, h, w) over the cells of the grid: (…, GRID, GRID)."""
    flat = maps.reshape(-1, 1, *maps.shape[-2:])
    return F.adaptive_avg_pool2d(flat, GRID).reshape(*maps.shape[:-2], GRID, GRID)


def encode_scene(frames_u8: Tensor) -> Tensor:
    """Colour and edges of each cell: (b, t, 3, h, w) uint8 → (b, t, 1024) float32.

    Per cell: mean and spread of each colour, mean horizontal and vertical contrast, and the share of edge strength in
    each of eight directions.
    """
    # Colour and edges at cell scale need no more than a fraction of the pixels.
    small = F.avg_pool2d(frames_u8.flatten(0, 1).float() / 255.0, 3)
    mean = _pool(small)
    spread = (_pool(small.square()) - mean.square()).clamp_min(0.0).sqrt()
    luma = (small * torch.tensor(LUMA, device=small.device)[:, None, None]).sum(dim=-3)
    dx, dy = F.pad(luma.diff(dim=-1), (0, 1)), F.pad(luma.diff(dim=-2), (0, 0, 0, 1))
    strength = (dx.square() + dy.square()).sqrt()
    direction = (torch.atan2(dy, dx) / torch.pi * (NUM_ORIENTATIONS / 2)).floor().long() % NUM_ORIENTATIONS
    by_direction = torch.stack([_pool(strength * (direction == d)) for d in range(NUM_ORIENTATIONS)], dim=1)
    contrast = torch.stack((_pool(dx.abs()), _pool(dy.abs())), dim=1)
    cells = torch.cat((2 * mean - 1, 2 * spread, EDGE_GAIN * contrast, EDGE_GAIN * by_direction), dim=1)
    return cells.flatten(1).reshape(*frames_u8.shape[:2], CLIP_WIDTH)


def is_middle_grey(scene_tc: Tensor) -> bool:
    """Whether a frame, by its features (t, 1024), is of middle luminance all over, of which `encode_sync` may make zeros.

    Of 16.7 million colours, 68 have a luminance of exactly a half as it is computed there; the slack is for rounding of stored features.
    """
    means = scene_tc[:, : 3 * GRID**2].unflatten(1, (3, -1))
    luma_tk = (means * torch.tensor(LUMA)[:, None]).sum(1)
    return bool((luma_tk.abs().amax(1) < 0.02).any())


def encode_sync(frames_u8: Tensor) -> Tensor:
    """Luminance and its changes on the grid: (b, f, 3, h, w) uint8 → (b, segments · 8, 768) float32.

    Segments of 16 frames start every 8 frames and know nothing of each other. Token j of a segment holds the luminance
    of its frames 2j and 2j + 1 and the ten differences of successive frames around them (zero beyond the segment).
    """
    level_bfyx = 2.0 * _pool(_luminance(frames_u8)) - 1.0
    segments = level_bfyx.flatten(2).unfold(1, SYNC_SEGMENT_FRAMES, SYNC_SEGMENT_STEP).transpose(2, 3)  # (b, g, 16, cells)
    change = MOTION_GAIN * segments.diff(dim=2)
    before = (NUM_DIFFERENCES - FRAMES_PER_TOKEN) // 2
    change = F.pad(change, (0, 0, before + 1, before))  # difference k belongs to frame k; frame 0 has none
    around = change.unfold(2, NUM_DIFFERENCES, FRAMES_PER_TOKEN).transpose(3, 4)  # (b, g, 8, differences, cells)
    own = segments.unflatten(2, (SYNC_TOKENS_PER_SEGMENT, FRAMES_PER_TOKEN))
    return torch.cat((own, around), dim=3).flatten(3).flatten(1, 2)


# ---- Captions to features: a fixed random vector per token

_TABLE_KEY = 0x7E47  # of the token vectors; changing it changes every lite feature


@lru_cache(maxsize=65_536)
def _token_vector(token: int) -> Tensor:
    generator = np.random.Generator(np.random.Philox(key=[_TABLE_KEY, token]))
    return torch.from_numpy(generator.standard_normal(TEXT_WIDTH, dtype=np.float32))


class LiteText:
    """Captions to (captions, 77, 1024) float32: each place holds its token's vector plus the mean of those up to it.

    Places after the end hold the mean of the whole caption, as the last places of a causal text encoder do. Every
    vector has unit mean square.
    """

    def __call__(self, captions: list[str]) -> Tensor:
        return torch.stack([self._encode(row) for row in tokenize(captions).tolist()])

    def _encode(self, tokens: list[int]) -> Tensor:
        length = tokens.index(max(tokens)) + 1  # the end token has the largest number
        own_lw = torch.zeros(TEXT_TOKENS, TEXT_WIDTH)
        own_lw[:length] = torch.stack([_token_vector(token) for token in tokens[:length]])
        seen_l1 = torch.arange(1, TEXT_TOKENS + 1).clamp_max(length)[:, None]
        together_lw = own_lw + own_lw.cumsum(dim=0) / seen_l1
        return together_lw / together_lw.square().mean(dim=-1, keepdim=True).sqrt()
