"""The solvers against closed forms: exact answers, orders of convergence, both directions, and rows that are alone with their steps."""

import math

import pytest
import torch

from mmaudio.base.errors import UserError
from mmaudio.flow import METHODS
from mmaudio.flow.dormand_prince import integrate_adaptively
from mmaudio.flow.guidance import guided, guided_as_one_batch
from mmaudio.flow.ode import solve

FIXED = ("euler", "midpoint", "heun")
ORDERS = {"euler": 1, "midpoint": 2, "heun": 2}


def rows(*values, dtype=torch.float64):
    return torch.tensor(values, dtype=dtype).view(-1, 1, 1).repeat(1, 2, 3)


def over_time(t, x):
    return (t if t.ndim == 0 else t[:, None, None]).expand_as(x).to(x.dtype)


def towards_a_wave(t, x):
    """dx/dt = −2 x + sin(5 t) has a closed form, below."""
    return -2 * x + torch.sin(5 * over_time(t, x))


def wave_at_one(x0):
    particular = lambda t: (2 * math.sin(5 * t) - 5 * math.cos(5 * t)) / 29  # noqa: E731
    return (x0 - particular(0)) * math.exp(-2) + particular(1)


def error(method, num_steps):
    x0 = rows(1.0)
    return (solve(towards_a_wave, x0, method=method, num_steps=num_steps).x_bnc - wave_at_one(x0)).abs().max().item()


@pytest.mark.parametrize("method", FIXED)
def test_order_of_convergence(method):
    coarse, fine = error(method, 40), error(method, 80)
    assert math.log2(coarse / fine) == pytest.approx(ORDERS[method], abs=0.15)


def test_one_dormand_prince_step_is_of_fifth_order(monkeypatch):
    """With a tolerance that anything meets, the whole way is one step; its local error falls with the sixth power of its length."""
    monkeypatch.setattr("mmaudio.flow.dormand_prince.ABSOLUTE", 1e9)
    monkeypatch.setattr("mmaudio.flow.dormand_prince._first_steps", lambda way, *rest: torch.ones(1, dtype=torch.float64))

    def one_step(length):
        x, _ = integrate_adaptively(lambda _: lambda t, x: x, rows(1.0), 0.0, length)
        return abs(x[0, 0, 0].item() - math.exp(length))

    assert math.log2(one_step(0.1) / one_step(0.05)) == pytest.approx(6, abs=0.2)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("reverse", [False, True])
def test_a_cubic(method, reverse):
    """dx/dt = 3 t² moves every state by one; midpoint and Heun are exact for straight lines, so their error has a closed form."""
    x0 = rows(0.5, -2.0)
    x1 = solve(lambda t, x: 3 * over_time(t, x) ** 2, x0, method=method, num_steps=10, reverse=reverse).x_bnc
    sign = -1 if reverse else 1
    moved = {"euler": 0.855 + 0.3 * reverse, "midpoint": 0.9975, "heun": 1.005, "adaptive": 1.0}[method]
    assert torch.allclose(x1, x0 + sign * moved, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_there_and_back(method):
    x0 = rows(0.3, 1.7)
    there = solve(lambda t, x: -x, x0, method=method, num_steps=500).x_bnc
    assert torch.allclose(there, x0 * math.exp(-1), atol=1e-3)
    assert torch.allclose(solve(lambda t, x: -x, there, method=method, num_steps=500, reverse=True).x_bnc, x0, atol=5e-3)


@pytest.mark.parametrize("method", METHODS)
def test_the_state_keeps_its_dtype_and_the_grid_is_float32(method):
    seen = []

    def velocity(t, x):
        seen.append((t.dtype, t.ndim))
        return torch.ones_like(x)

    assert solve(velocity, rows(0.0, dtype=torch.float64), method=method, num_steps=3).x_bnc.dtype == torch.float64
    if method == "adaptive":
        assert set(seen) == {(torch.float64, 1)}, "one time a row, in the dtype of the state"
    else:
        assert set(seen) == {(torch.float32, 0)}
    assert solve(velocity, rows(0.0, dtype=torch.float32), method=method).x_bnc.dtype == torch.float32


@pytest.mark.parametrize(("method", "a_step"), [("euler", 1), ("midpoint", 2), ("heun", 2)])
def test_evaluations_are_counted(method, a_step):
    calls = []

    def velocity(t, x):
        calls.append(t)
        return -x

    solution = solve(velocity, rows(1.0, 2.0), method=method, num_steps=7, min_sigma=0.1)
    assert solution.num_evaluations_b.tolist() == [7 * a_step] * 2 and len(calls) == 7 * a_step
    assert max(calls) <= 0.9 + 1e-6, "the grid ends at 1 − min_sigma"


def stiffness(which):
    """Rows of their own: the first hardly moves, the last turns round and round."""
    rate = torch.tensor([0.01, 1.0, 30.0], dtype=torch.float64)[which][:, None, None]
    return lambda t, x: rate * torch.cos(rate * over_time(t, x))


def test_adaptive_steps_are_each_rows_own():
    x0, seen = rows(0.0, 0.0, 0.0), []

    def of_rows(which):
        velocity = stiffness(which)

        def counting(t, x):
            seen.append(len(which))
            return velocity(t, x)

        return counting

    together = solve(of_rows(torch.arange(3)), x0, method="adaptive", of_rows=of_rows, num_steps=1, min_sigma=0.5)
    wanted = torch.sin(torch.tensor([0.01, 1.0, 30.0], dtype=torch.float64))
    assert torch.allclose(together.x_bnc[:, 0, 0], wanted, atol=1e-6), "at t = 1, whatever steps and sigma are"
    counts = together.num_evaluations_b.tolist()
    assert counts[0] < counts[1] < counts[2]
    assert sum(seen) == sum(counts), "rows that have arrived are left out"
    for row in range(3):
        alone = solve(stiffness(torch.tensor([row])), x0[:1], method="adaptive", of_rows=lambda _, row=row: stiffness(torch.tensor([row])))
        assert torch.equal(alone.x_bnc[0], together.x_bnc[row]) and alone.num_evaluations_b[0] == counts[row]


def test_adaptive_meets_its_tolerance_in_float32():
    x0 = rows(1.0, 1e-3, dtype=torch.float32)
    solution = solve(towards_a_wave, x0, method="adaptive")
    assert torch.allclose(solution.x_bnc, wave_at_one(x0), atol=2e-6)
    assert max(solution.num_evaluations_b) < 1000
    still = solve(lambda t, x: torch.zeros_like(x), x0, method="adaptive")
    assert torch.equal(still.x_bnc, x0) and max(still.num_evaluations_b) < 50


def test_what_the_solvers_refuse():
    with pytest.raises(UserError, match=r"^no solver 'eule' \(did you mean 'euler'\?\); known are euler, midpoint, heun, adaptive$"):
        solve(towards_a_wave, rows(1.0), method="eule")
    with pytest.raises(UserError, match="0 solver steps; want at least 1"):
        solve(towards_a_wave, rows(1.0), num_steps=0)
    noise = torch.Generator().manual_seed(0)
    with pytest.raises(UserError, match=r"gave up after 2\d\d evaluations .* at t = 0\.\d+: it is not smooth enough .* such as heun"):
        integrate_adaptively(lambda _: lambda t, x: torch.randn(x.shape, generator=noise), rows(1.0), 0.0, 1.0, most_evaluations=300)
    with pytest.raises(UserError, match="no finite number"):
        solve(lambda t, x: x * math.nan, rows(1.0), method="adaptive")


@pytest.mark.parametrize("time_s", [torch.tensor(0.3), torch.tensor([0.3, 0.6])])
def test_guidance_as_one_batch(time_s):
    x = torch.randn(2, 3, 4)
    scale = torch.arange(4.0)[:, None, None]

    def both(t, x2):
        return scale * x2 + over_time(t, x2)

    conditional, null = (lambda t, x, part=part: scale[part] * x + over_time(t, x) for part in (slice(0, 2), slice(2, 4)))
    assert torch.allclose(guided_as_one_batch(both, 4.5)(time_s, x), guided(conditional, null, 4.5)(time_s, x))
    assert torch.equal(guided(conditional, null, 0.99)(time_s, x), conditional(time_s, x)), "below 1 there is none"
