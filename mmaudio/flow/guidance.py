"""Classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598). Axes: b batch, n token, c channel."""

from collections.abc import Callable

import torch
from torch import Tensor

Velocity = Callable[[Tensor, Tensor], Tensor]  # (time, a scalar or one a row (b,); state (b, n, c)) → velocity (b, n, c)


def uses_guidance(strength: float) -> bool:
    """Below a strength of 1 there is no guidance: the conditional velocity alone."""
    return strength >= 1


def guided(conditional: Velocity, null: Velocity, strength: float) -> Velocity:
    """Lead the conditional velocity away from the null one: w · v_cond + (1 − w) · v_null, by two evaluations a step."""
    if not uses_guidance(strength):
        return conditional
    return lambda t, x: strength * conditional(t, x) + (1 - strength) * null(t, x)


def guided_as_one_batch(both: Velocity, strength: float) -> Velocity:
    """The same by one evaluation a step, of a batch of two.

    Args:
        both: the velocity of 2b rows, of which the first b are told the conditions and the others the null; at a time
            that is a scalar, or one for each of the 2b rows.
        strength: 1 or more.
    Returns: the velocity of b rows, in the state's dtype, in which it is also combined.
    """

    def velocity(t: Tensor, x_bnc: Tensor) -> Tensor:
        conditional, null = both(t if t.ndim == 0 else torch.cat([t, t]), torch.cat([x_bnc, x_bnc])).to(x_bnc.dtype).chunk(2)
        return strength * conditional + (1 - strength) * null

    return velocity
