"""The adaptive solver: Dormand–Prince 5(4), with a step size of each row's own.

Dormand and Prince 1980, "A family of embedded Runge-Kutta formulae", RK5(4)7M; error norm, first step and control of the
step as in Hairer, Nørsett and Wanner, "Solving Ordinary Differential Equations I", section II.4. Because no row's steps
depend on the rows beside it, neither batches nor processes change a result. Axes: b batch, k rows still on their way.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mmaudio.base.errors import UserError
from mmaudio.flow.guidance import Velocity

NODES = (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
STAGES = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),  # the step itself, of fifth order
)
FOURTH_ORDER = (5179 / 57600, 0.0, 7571 / 16695, 393 / 640, -92097 / 339200, 187 / 2100, 1 / 40)
ERROR_WEIGHTS = tuple(fifth - fourth for fifth, fourth in zip((*STAGES[-1], 0.0), FOURTH_ORDER, strict=True))
ORDER = 5
RELATIVE, ABSOLUTE = 1e-7, 1e-9  # tolerances of torchdiffeq's odeint, which is what published models were sampled with
SAFETY, SMALLEST_FACTOR, LARGEST_FACTOR = 0.9, 0.2, 10.0
MOST_EVALUATIONS = 20_000
_TINY = 1e-5
_FIRST_STEP = 1e-6  # where the state or the velocity is next to nothing


@dataclass(frozen=True)
class _Way:
    """From one time to another, measured by the length s gone of it. Times and states go to the velocity in `dtype`."""

    start: float
    end: float
    dtype: torch.dtype
    shape: torch.Size  # of one row's state

    @property
    def length(self) -> float:
        return abs(self.end - self.start)

    def slope(self, velocity: Velocity, s_k: Tensor, y_kd: Tensor) -> Tensor:
        """dy / ds of each row, in float64. Raises: UserError where it is not a number."""
        sign = 1.0 if self.end > self.start else -1.0
        x = y_kd.unflatten(1, self.shape).to(self.dtype)
        slope_kd = sign * velocity((self.start + sign * s_k).to(self.dtype), x).double().flatten(1)
        if not bool(torch.isfinite(slope_kd).all()):
            raise UserError(
                "the adaptive solver met a velocity that is no finite number; the weights may be damaged, or their precision low"
            )
        return slope_kd


@dataclass(frozen=True)
class _OnTheWay:
    """Rows that have not arrived: their numbers, length gone, state, slope there, next step, and whether the last step failed."""

    row_k: Tensor
    s_k: Tensor
    y_kd: Tensor
    slope_kd: Tensor
    step_k: Tensor
    failed_k: Tensor

    def keep(self, mask_k: Tensor) -> "_OnTheWay":
        parts = (self.row_k, self.s_k, self.y_kd, self.slope_kd, self.step_k, self.failed_k)
        return _OnTheWay(*(part[mask_k] for part in parts))


def _norm(values_kd: Tensor, scale_kd: Tensor) -> Tensor:
    return (values_kd / scale_kd).square().mean(1).sqrt()


def _scale(y_kd: Tensor, other_kd: Tensor) -> Tensor:
    return ABSOLUTE + RELATIVE * torch.maximum(y_kd.abs(), other_kd.abs())


def _first_steps(way: _Way, velocity: Velocity, y_kd: Tensor, slope_kd: Tensor) -> Tensor:
    """Hairer et al., section II.4, "Starting step size"; one evaluation."""
    scale_kd = _scale(y_kd, y_kd)
    d0_k, d1_k = _norm(y_kd, scale_kd), _norm(slope_kd, scale_kd)
    tiny_k = (d0_k < _TINY) | (d1_k < _TINY)
    guess_k = torch.where(tiny_k, _FIRST_STEP, 0.01 * d0_k / d1_k.clamp_min(_TINY)).clamp_max(way.length)
    after_kd = way.slope(velocity, guess_k, y_kd + guess_k[:, None] * slope_kd)
    d2_k = _norm(after_kd - slope_kd, scale_kd) / guess_k
    steepest_k = torch.maximum(d1_k, d2_k)
    better_k = torch.where(steepest_k <= 1e-15, torch.clamp_min(1e-3 * guess_k, _FIRST_STEP), (0.01 / steepest_k) ** (1 / ORDER))
    return torch.minimum(100 * guess_k, better_k)


def _stages(way: _Way, velocity: Velocity, on: _OnTheWay, step_k: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """State and slope after a step, and the error of the state, each (k, d); six evaluations."""
    slopes, y_kd = [on.slope_kd], on.y_kd
    for node, weights in zip(NODES[1:], STAGES, strict=True):
        moved = sum(weight * slope for weight, slope in zip(weights, slopes, strict=True) if weight)
        y_kd = on.y_kd + step_k[:, None] * moved
        slopes.append(way.slope(velocity, on.s_k + node * step_k, y_kd))
    error_kd = step_k[:, None] * sum(weight * slope for weight, slope in zip(ERROR_WEIGHTS, slopes, strict=True) if weight)
    return y_kd, slopes[-1], error_kd


def _try_step(way: _Way, velocity: Velocity, on: _OnTheWay) -> _OnTheWay:
    """Every row tries its step; one whose error is too large stays where it is, with a smaller step for the next try."""
    left_k = way.length - on.s_k
    is_last_k = on.step_k >= left_k
    step_k = torch.where(is_last_k, left_k, on.step_k)
    y_kd, slope_kd, error_kd = _stages(way, velocity, on, step_k)
    ratio_k = _norm(error_kd, _scale(on.y_kd, y_kd))
    passed_k = ratio_k <= 1
    largest_k = torch.where(on.failed_k | ~passed_k, 1.0, LARGEST_FACTOR)
    factor_k = torch.minimum((SAFETY * ratio_k.clamp_min(1e-10) ** (-1 / ORDER)).clamp_min(SMALLEST_FACTOR), largest_k)
    s_k = torch.where(is_last_k, way.length, on.s_k + step_k)  # exactly the end, not its rounding
    taken_k1 = passed_k[:, None]
    return _OnTheWay(
        on.row_k,
        torch.where(passed_k, s_k, on.s_k),
        torch.where(taken_k1, y_kd, on.y_kd),
        torch.where(taken_k1, slope_kd, on.slope_kd),
        step_k * factor_k,
        ~passed_k,
    )


def integrate_adaptively(
    of_rows: Callable[[Tensor], Velocity], x_b: Tensor, start: float, end: float, most_evaluations: int = MOST_EVALUATIONS
) -> tuple[Tensor, Tensor]:
    """The state (b, …) at time `end` of rows that are at `x_b` (b, …) at time `start`, and evaluations of each, (b,) int64.

    Tolerances are RELATIVE and ABSOLUTE. Sums are float64; the velocity gets times (k,) and states in the dtype of `x_b`.

    Args:
        of_rows: the velocity of some rows, (k,) int64. Rows that have arrived are left out.
    Raises: UserError where a row needs more than `most_evaluations`, or its velocity is no finite number.
    """
    way = _Way(start, end, x_b.dtype, x_b.shape[1:])
    result, count_b = torch.empty_like(x_b), torch.zeros(len(x_b), dtype=torch.int64)
    row_k, y_kd = torch.arange(len(x_b), device=x_b.device), x_b.double().flatten(1)
    velocity, begin_k = of_rows(row_k), torch.zeros(len(x_b), dtype=torch.float64, device=x_b.device)
    slope_kd = way.slope(velocity, begin_k, y_kd)
    on = _OnTheWay(row_k, begin_k, y_kd, slope_kd, _first_steps(way, velocity, y_kd, slope_kd), begin_k > 0)
    num_evaluations = 2
    while len(on.row_k):
        if num_evaluations + len(STAGES) > most_evaluations:
            raise UserError(_gave_up(way, on, num_evaluations))
        on = _try_step(way, velocity, on)
        num_evaluations += len(STAGES)
        arrived_k = on.s_k >= way.length
        if bool(arrived_k.any()):
            rows = on.row_k[arrived_k]
            result[rows] = on.y_kd[arrived_k].unflatten(1, way.shape).to(x_b.dtype)
            count_b[rows.cpu()] = num_evaluations
            on = on.keep(~arrived_k)
            velocity = of_rows(on.row_k)
    return result, count_b


def _gave_up(way: _Way, on: _OnTheWay, num_evaluations: int) -> str:
    gone = float(on.s_k.min())
    t = way.start + gone if way.end > way.start else way.start - gone
    return (
        f"the adaptive solver gave up after {num_evaluations} evaluations of the velocity, at t = {t:.4f}: it is not smooth enough for a "
        f"relative error of {RELATIVE:g}; take a solver with a number of steps, such as heun"
    )
