"""What the network can be told, one row each, and the projected conditions, which depend on neither time nor latent."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mmaudio.base.specs import CLIP_WIDTH, SYNC_WIDTH, TEXT_TOKENS, TEXT_WIDTH, AudioSpec


@dataclass(frozen=True)
class ConditionRow:
    """One condition: width of its features, how many tokens a clip has, and which parameter stands for its absence."""

    name: str
    width: int
    num_tokens: Callable[[AudioSpec], int]
    null_name: str


CONDITION_ROWS = {
    row.name: row
    for row in (
        ConditionRow("clip", CLIP_WIDTH, lambda spec: spec.num_clip_frames, "empty_clip_feat"),
        ConditionRow("sync", SYNC_WIDTH, lambda spec: spec.num_sync_tokens, "empty_sync_feat"),
        ConditionRow("text", TEXT_WIDTH, lambda _spec: TEXT_TOKENS, "empty_string_feat"),
    )
}


@dataclass(frozen=True)
class Conditions:
    """Conditions after their input projections; computed once per sample and reused over all solver steps.

    clip_f (b, T, d), sync_rows (b, S, d) with the row that each of the N latent tokens takes in sync_row_n (N,), text_f
    (b, L, d), pooled clip_f_c and text_f_c (b, d).
    """

    clip_f: Tensor
    sync_rows: Tensor
    text_f: Tensor
    clip_f_c: Tensor
    text_f_c: Tensor
    sync_row_n: Tensor

    @property
    def sync_f(self) -> Tensor:
        """Sync features at the latents' rate, (b, N, d): nearest-exact upsampling repeats rows."""
        return self.sync_rows.index_select(1, self.sync_row_n)

    def expand(self, batch: int) -> "Conditions":
        """The same conditions for `batch` samples, without copying; tensors that have that many rows stay as they are.

        Raises: ValueError if a tensor has neither one row nor `batch`.
        """

        def grown(tensor: Tensor) -> Tensor:
            if tensor.shape[0] not in (1, batch):
                raise ValueError(f"conditions of {tensor.shape[0]} samples cannot be expanded to {batch}")
            return tensor.expand(batch, *tensor.shape[1:])

        clip_f, clip_f_c, text_f, text_f_c = map(grown, (self.clip_f, self.clip_f_c, self.text_f, self.text_f_c))
        return Conditions(clip_f, grown(self.sync_rows), text_f, clip_f_c, text_f_c, self.sync_row_n)

    def followed_by(self, other: "Conditions") -> "Conditions":
        """The rows of these and after them those of others, for latents of the same length; all tensors are copied."""
        clip_f, clip_f_c = torch.cat([self.clip_f, other.clip_f]), torch.cat([self.clip_f_c, other.clip_f_c])
        text_f, text_f_c = torch.cat([self.text_f, other.text_f]), torch.cat([self.text_f_c, other.text_f_c])
        return Conditions(clip_f, torch.cat([self.sync_rows, other.sync_rows]), text_f, clip_f_c, text_f_c, self.sync_row_n)

    def pick(self, clip_b: Tensor, sync_b: Tensor, text_b: Tensor) -> "Conditions":
        """For each sample, the rows of clip, sync and text with these numbers, (b,) int64 each."""
        clip_f, clip_f_c = (tensor.index_select(0, clip_b) for tensor in (self.clip_f, self.clip_f_c))
        text_f, text_f_c = (tensor.index_select(0, text_b) for tensor in (self.text_f, self.text_f_c))
        return Conditions(clip_f, self.sync_rows.index_select(0, sync_b), text_f, clip_f_c, text_f_c, self.sync_row_n)
