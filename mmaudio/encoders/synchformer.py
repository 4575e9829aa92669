"""Synchformer's visual branch: what moves in a video and when, 8 vectors a segment of 16 frames (Iashin et al. 2024, 2401.16423).

The segment encoder is a MotionFormer with divided space-time attention (Patrick et al. 2021, 2106.05392; Bertasius et al. 2021,
2102.05095) and one layer that sums each pair of frames up. Modules carry the names of the published file.

Axes: n segment, f pair of frames, p patch, t token (the class token, then pairs by patches), h head, c channel, e channel of a head.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmaudio.base.specs import SYNC_SEGMENT_FRAMES, SYNC_SEGMENT_STEP, SYNC_SIDE_PX, SYNC_TOKENS_PER_SEGMENT, SYNC_WIDTH
from mmaudio.files.tensor_files import load_part

PREFIX = "vfeat_extractor."
DEPTH = 12
NUM_HEADS = 12
MLP_WIDTH = 4 * SYNC_WIDTH
NORM_EPS = 1e-6
PATCH_PX = 16
PATCH_FRAMES = SYNC_SEGMENT_FRAMES // SYNC_TOKENS_PER_SEGMENT
NUM_PATCHES = (SYNC_SIDE_PX // PATCH_PX) ** 2
# Parameters of the published file that nothing is computed with; a whole file has them.
UNUSED = {
    PREFIX + "patch_embed.proj.weight": (SYNC_WIDTH, 3, PATCH_PX, PATCH_PX),
    PREFIX + "patch_embed.proj.bias": (SYNC_WIDTH,),
}
# Attention over time has 196 groups a segment, and CUDA kernels take at most 65 535 groups at once.
MOST_SEGMENTS = 256


class PatchEmbed3d(nn.Module):
    """Boxes of 2 frames by 16 by 16 pixels to tokens, ordered by time, row and column."""

    def __init__(self) -> None:
        super().__init__()
        kernel = (PATCH_FRAMES, PATCH_PX, PATCH_PX)
        self.proj = nn.Conv3d(3, SYNC_WIDTH, kernel, stride=kernel)

    def forward(self, segments: Tensor) -> Tensor:
        """(n, 16, 3, 224, 224) → (n, 1568, c)."""
        boxes = segments.unflatten(4, (-1, PATCH_PX)).unflatten(3, (-1, PATCH_PX)).unflatten(1, (-1, PATCH_FRAMES))
        boxes = boxes.permute(0, 1, 4, 6, 3, 2, 5, 7).flatten(1, 3).flatten(2)  # from (n, f, 2, 3, rows, 16, columns, 16)
        # The convolution's strides equal its kernel: it is a matrix product, and faster as one.
        return F.linear(boxes, self.proj.weight.flatten(1), self.proj.bias)


class DividedAttention(nn.Module):
    """Each token attends to its group and the class token, the class token to all.

    A group is the tokens of one patch at all times (`over_time`), or those of one pair of frames.
    """

    def __init__(self, *, over_time: bool) -> None:
        super().__init__()
        self.over_time = over_time
        self.qkv = nn.Linear(SYNC_WIDTH, 3 * SYNC_WIDTH)
        self.proj = nn.Linear(SYNC_WIDTH, SYNC_WIDTH)

    def _grouped(self, x_nthe: Tensor) -> Tensor:
        """(n, 1568, h, e) → (n, groups, members, h, e), a view."""
        x_nfphe = x_nthe.unflatten(1, (SYNC_TOKENS_PER_SEGMENT, NUM_PATCHES))
        return x_nfphe.transpose(1, 2) if self.over_time else x_nfphe

    def _group_and_class(self, x_nthe: Tensor) -> Tensor:
        """(n, 1569, h, e) → (n · groups, h, 1 + members, e)."""
        groups = self._grouped(x_nthe[:, 1:])
        shared = x_nthe[:, None, :1].expand(-1, groups.shape[1], -1, -1, -1)
        return torch.cat((shared, groups), dim=2).flatten(0, 1).transpose(1, 2)

    def forward(self, x_ntc: Tensor) -> Tensor:
        q, k, v = self.qkv(x_ntc).unflatten(-1, (3, NUM_HEADS, -1)).unbind(2)  # each (n, t, h, e)
        of_class = F.scaled_dot_product_attention(q[:, :1].transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)).transpose(1, 2)
        queries = self._grouped(q[:, 1:])
        out = F.scaled_dot_product_attention(queries.flatten(0, 1).transpose(1, 2), self._group_and_class(k), self._group_and_class(v))
        out = out.transpose(1, 2).unflatten(0, queries.shape[:2])  # (n, groups, members, h, e)
        out = (out.transpose(1, 2) if self.over_time else out).flatten(1, 2)
        return self.proj(torch.cat((of_class, out), dim=1).flatten(2))


class MLP(nn.Module):
    """Two layers with the exact (erf) GELU between them."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(SYNC_WIDTH, MLP_WIDTH)
        self.fc2 = nn.Linear(MLP_WIDTH, SYNC_WIDTH)

    def forward(self, x_ntc: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x_ntc)))


class SpaceTimeBlock(nn.Module):
    """Attention over time, then within each pair of frames, then the MLP; each on normalised tokens and added."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(SYNC_WIDTH, eps=NORM_EPS)
        self.attn = DividedAttention(over_time=False)
        self.timeattn = DividedAttention(over_time=True)
        self.norm2 = nn.LayerNorm(SYNC_WIDTH, eps=NORM_EPS)
        self.mlp = MLP()
        self.norm3 = nn.LayerNorm(SYNC_WIDTH, eps=NORM_EPS)

    def forward(self, x_ntc: Tensor) -> Tensor:
        x_ntc = x_ntc + self.timeattn(self.norm3(x_ntc))
        x_ntc = x_ntc + self.attn(self.norm1(x_ntc))
        return x_ntc + self.mlp(self.norm2(x_ntc))


class SpatialSummary(nn.Module):
    """One vector for the 196 tokens of a pair of frames: the class place of a pre-norm transformer layer, and only that place."""

    def __init__(self) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, SYNC_WIDTH))
        self.self_attn = nn.MultiheadAttention(SYNC_WIDTH, NUM_HEADS, batch_first=True)
        self.linear1 = nn.Linear(SYNC_WIDTH, MLP_WIDTH)
        self.linear2 = nn.Linear(MLP_WIDTH, SYNC_WIDTH)
        self.norm1 = nn.LayerNorm(SYNC_WIDTH, eps=NORM_EPS)
        self.norm2 = nn.LayerNorm(SYNC_WIDTH, eps=NORM_EPS)

    def forward(self, x_bpc: Tensor) -> Tensor:
        """(b, 196, c) → (b, c)."""
        shared = self.cls_token.expand(x_bpc.shape[0], -1, -1)
        normed = self.norm1(torch.cat((shared, x_bpc), dim=1))
        y_bc = (shared + self.self_attn(normed[:, :1], normed, normed, need_weights=False)[0]).squeeze(1)
        return y_bc + self.linear2(F.gelu(self.linear1(self.norm2(y_bc))))


class SegmentEncoder(nn.Module):
    """Segments to 8 vectors each: (n, 16, 3, 224, 224) in [−1, 1] → (n, 8, 768)."""

    def __init__(self, depth: int = DEPTH) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, SYNC_WIDTH))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + NUM_PATCHES, SYNC_WIDTH))
        self.temp_embed = nn.Parameter(torch.zeros(1, SYNC_TOKENS_PER_SEGMENT, SYNC_WIDTH))
        self.patch_embed_3d = PatchEmbed3d()
        self.blocks = nn.ModuleList(SpaceTimeBlock() for _ in range(depth))
        self.norm = nn.LayerNorm(SYNC_WIDTH, eps=NORM_EPS)
        self.spatial_attn_agg = SpatialSummary()

    def _tokens(self, segments: Tensor) -> Tensor:
        """(n, 16, 3, 224, 224) → (n, 1569, c), each token with its place."""
        places_1tc = (self.temp_embed[:, :, None] + self.pos_embed[:, None, 1:]).flatten(1, 2)
        patches_ntc = self.patch_embed_3d(segments) + places_1tc
        first_1tc = self.cls_token + self.pos_embed[:, :1]
        return torch.cat((first_1tc.expand(len(segments), -1, -1), patches_ntc), dim=1)

    def forward(self, segments: Tensor) -> Tensor:
        x_ntc = self._tokens(segments)
        for block in self.blocks:
            x_ntc = block(x_ntc)
        x_nfpc = self.norm(x_ntc[:, 1:]).unflatten(1, (SYNC_TOKENS_PER_SEGMENT, NUM_PATCHES))
        return self.spatial_attn_agg(x_nfpc.flatten(0, 1)).unflatten(0, x_nfpc.shape[:2])


class Synchformer(nn.Module):
    """Frames to vectors. `vfeat_extractor` encodes segments of one shape alone, so it is the part to compile."""

    def __init__(self, depth: int = DEPTH) -> None:
        super().__init__()
        self.vfeat_extractor = SegmentEncoder(depth)

    def forward(self, frames: Tensor, *, max_segments: int | None = None) -> Tensor:
        """Encode every segment of 16 frames; one starts every 8 frames, and none knows of another.

        Args:
            frames: (b, t, 3, 224, 224) at 25 per second, in [−1, 1], of any floating dtype. Last frames that do not fill a segment
                are left out.
            max_segments: most segments encoded at once, of whichever clips; it bounds the memory and does not change the result.

        Returns: (b, segments · 8, 768) in the weights' dtype; vector 8 s + j is of frames 8 s + 2 j and 8 s + 2 j + 1.
        Raises: ValueError for fewer than 16 frames or another frame size.
        """
        want = (3, SYNC_SIDE_PX, SYNC_SIDE_PX)
        if frames.ndim != 5 or tuple(frames.shape[2:]) != want or frames.shape[1] < SYNC_SEGMENT_FRAMES:
            raise ValueError(
                f"sync frames have shape {tuple(frames.shape)}; want (clips, frames, {', '.join(map(str, want))}) with at least"
                f" {SYNC_SEGMENT_FRAMES} frames, which is one segment"
            )
        num_segments = (frames.shape[1] - SYNC_SEGMENT_FRAMES) // SYNC_SEGMENT_STEP + 1
        places = [(clip, SYNC_SEGMENT_STEP * s) for clip in range(len(frames)) for s in range(num_segments)]
        at_once = min(max_segments or MOST_SEGMENTS, MOST_SEGMENTS)
        dtype = self.vfeat_extractor.cls_token.dtype
        done = []
        for i in range(0, len(places), at_once):
            segments = torch.stack([frames[clip, start : start + SYNC_SEGMENT_FRAMES] for clip, start in places[i : i + at_once]])
            done.append(self.vfeat_extractor(segments.to(dtype)))
        return torch.cat(done).reshape(len(frames), num_segments * SYNC_TOKENS_PER_SEGMENT, SYNC_WIDTH)


def load_synchformer(state_dict: Mapping[str, Tensor]) -> Synchformer:
    """Synchformer's visual branch with the weights of the published file, as `load_part`."""
    return load_part(Synchformer, state_dict, PREFIX, "Synchformer's visual branch", UNUSED)
