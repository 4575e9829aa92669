"""Solvers: follow a velocity from noise to data. Axes: b batch, n token, c channel."""

import itertools

import torch
from torch import Tensor

from mmaudio.base.errors import UserError, nearest
from mmaudio.flow.guidance import Velocity

METHODS = ("euler",)


def integrate(
    velocity: Velocity, x_bnc: Tensor, *, method: str = "euler", num_steps: int = 25, min_sigma: float = 0.0, reverse: bool = False
) -> Tensor:
    """The state at the end of the way: at t = 1 − min_sigma from noise, or with `reverse` at t = −min_sigma from data.

    The time grid is float32; the state keeps its dtype. Raises: UserError for an unknown method.
    """
    if method not in METHODS:
        raise UserError(f"no solver {method!r}{nearest(method, METHODS)}; known are {', '.join(METHODS)}")
    start, end = (1.0, 0.0) if reverse else (0.0, 1.0)
    times = torch.linspace(start, end - min_sigma, num_steps + 1, device=x_bnc.device)
    for now, after in itertools.pairwise(times):
        x_bnc = x_bnc + ((after - now) * velocity(now, x_bnc)).to(x_bnc.dtype)
    return x_bnc
