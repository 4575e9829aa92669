"""Classifier-free guidance (Ho and Salimans 2022, arXiv 2207.12598)."""

from collections.abc import Callable

from torch import Tensor

Velocity = Callable[[Tensor, Tensor], Tensor]  # (time, a scalar tensor; state (b, n, c)) → velocity (b, n, c)


def guided(conditional: Velocity, null: Velocity, strength: float) -> Velocity:
    """Lead the conditional velocity away from the null one: w · v_cond + (1 − w) · v_null.

    Below a strength of 1 there is no guidance: the conditional velocity alone, one evaluation a step instead of two.
    """
    if strength < 1:
        return conditional
    return lambda t, x: strength * conditional(t, x) + (1 - strength) * null(t, x)
