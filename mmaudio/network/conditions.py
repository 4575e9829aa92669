"""What the network is told: the projected conditions, which depend on neither the time nor the latent."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Conditions:
    """Conditions after their input projections; computed once per sample and reused over all solver steps.

    clip_f (b, T, d), sync_f (b, N, d) at the latent's rate, text_f (b, L, d), pooled clip_f_c and text_f_c (b, d).
    """

    clip_f: Tensor
    sync_f: Tensor
    text_f: Tensor
    clip_f_c: Tensor
    text_f_c: Tensor

    def expand(self, batch: int) -> "Conditions":
        """The same conditions for `batch` samples, without copying; tensors that have that many rows stay as they are.

        Raises: ValueError if a tensor has neither one row nor `batch`.
        """

        def grown(tensor: Tensor) -> Tensor:
            if tensor.shape[0] not in (1, batch):
                raise ValueError(f"conditions of {tensor.shape[0]} samples cannot be expanded to {batch}")
            return tensor.expand(batch, *tensor.shape[1:])

        return Conditions(grown(self.clip_f), grown(self.sync_f), grown(self.text_f), grown(self.clip_f_c), grown(self.text_f_c))
