"""The straight path from noise to data. Axes: b batch, n token, c channel."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class PathPoint:
    """A point on the path and the velocity there, both (batch, tokens, channels)."""

    xt_bnc: Tensor
    v_bnc: Tensor


def point_on_path(x0_bnc: Tensor, x1_bnc: Tensor, t_b: Tensor, min_sigma: float = 0.0) -> PathPoint:
    """Place each item on the straight line from noise to data.

    Args:
        x0_bnc: unit normal noise, (batch, tokens, channels).
        x1_bnc: normalised latents, same shape.
        t_b: times in [0, 1]; 0 is noise, 1 is data.
        min_sigma: noise left at t = 1.
    Returns: the point and its velocity; no input is changed.
    Raises: ValueError if `t_b` is not one time per item.
    Source: Lipman et al. 2023 (arXiv 2210.02747), eq. 22.
    """
    if t_b.shape != x1_bnc.shape[:1]:
        raise ValueError(f"t_b has shape {tuple(t_b.shape)}; want ({x1_bnc.shape[0]},), one time per item")
    t_b11 = t_b[:, None, None]
    keep = 1.0 - min_sigma
    return PathPoint(xt_bnc=(1 - keep * t_b11) * x0_bnc + t_b11 * x1_bnc, v_bnc=x1_bnc - keep * x0_bnc)
