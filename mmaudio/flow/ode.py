"""Solvers: follow a velocity from noise to data. Axes: b batch, n token, c channel."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mmaudio.base.errors import UserError, nearest
from mmaudio.flow import ADAPTIVE, METHODS
from mmaudio.flow.dormand_prince import integrate_adaptively
from mmaudio.flow.guidance import Velocity

Increment = Callable[[Velocity, Tensor, Tensor, Tensor], Tensor]  # (velocity, time now, step, state) → what is added to the state


@dataclass(frozen=True)
class Solution:
    """The state at the end of the way (b, n, c), and how often the velocity of each row was evaluated, (b,) int64."""

    x_bnc: Tensor
    num_evaluations_b: Tensor


def _euler(velocity: Velocity, now: Tensor, step: Tensor, x_bnc: Tensor) -> Tensor:
    return step * velocity(now, x_bnc)


def _midpoint(velocity: Velocity, now: Tensor, step: Tensor, x_bnc: Tensor) -> Tensor:
    half = step / 2
    return step * velocity(now + half, x_bnc + (half * velocity(now, x_bnc)).to(x_bnc.dtype))


def _heun(velocity: Velocity, now: Tensor, step: Tensor, x_bnc: Tensor) -> Tensor:
    first = velocity(now, x_bnc)
    second = velocity(now + step, x_bnc + (step * first).to(x_bnc.dtype))
    return step / 2 * (first + second)


_INCREMENTS: dict[str, tuple[Increment, int]] = {"euler": (_euler, 1), "midpoint": (_midpoint, 2), "heun": (_heun, 2)}  # and evaluations


def solve(
    velocity: Velocity,
    x_bnc: Tensor,
    *,
    method: str = "euler",
    num_steps: int = 25,
    min_sigma: float = 0.0,
    reverse: bool = False,
    of_rows: Callable[[Tensor], Velocity] | None = None,
) -> Solution:
    """Follow the velocity to t = 1 − min_sigma from noise, or with `reverse` to t = −min_sigma from data (training.md section 2).

    "adaptive" goes to 1 or 0, whatever `num_steps` and `min_sigma` are. The others take equal steps on a float32 grid and
    hand over a scalar time; the state keeps its dtype.

    Args:
        of_rows: the velocity of some rows (k,) int64 of the batch; "adaptive" alone asks for it, with one time a row. None:
            the velocity is one function for all rows.
    Raises: UserError for an unknown method, no steps, and a velocity that "adaptive" cannot follow.
    """
    if method not in METHODS:
        raise UserError(f"no solver {method!r}{nearest(method, METHODS)}; known are {', '.join(METHODS)}")
    start, end = (1.0, 0.0) if reverse else (0.0, 1.0)
    if method == ADAPTIVE:
        return Solution(*integrate_adaptively(of_rows or (lambda _: velocity), x_bnc, start, end))
    if num_steps < 1:
        raise UserError(f"{num_steps} solver steps; want at least 1")
    increment, evaluations_a_step = _INCREMENTS[method]
    times = torch.linspace(start, end - min_sigma, num_steps + 1, device=x_bnc.device)
    for now, after in itertools.pairwise(times):
        x_bnc = x_bnc + increment(velocity, now, after - now, x_bnc).to(x_bnc.dtype)
    return Solution(x_bnc, torch.full((len(x_bnc),), num_steps * evaluations_a_step))
