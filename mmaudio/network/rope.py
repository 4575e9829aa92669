"""Rotary position embedding of queries and keys (Su et al. 2021, arXiv 2104.09864), on adjacent channel pairs.

Axes: b batch, h head, n token, d channel of a head, p channel pair.
"""

import torch
from torch import Tensor

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
