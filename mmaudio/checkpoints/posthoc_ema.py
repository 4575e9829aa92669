"""Averages of the weights over a run, of any length, worked out afterwards from stored ones: the mathematics of their profiles.

Karras et al. 2023, "Analyzing and Improving the Training Dynamics of Diffusion Models" (arXiv 2312.02696), section 3 and
appendix C. A profile's length is its relative standard deviation sigma_rel; n counts updates.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmaudio.base.errors import UserError

Weights = npt.NDArray[np.float64]
WIDEST = 12**-0.5  # sigma_rel of the plain mean of all updates, gamma = 0; wider ones would favour the earliest updates


def check_sigma(sigma_rel: float) -> None:
    """Raises: UserError for a width that no average favouring later updates has."""
    if not 0 < sigma_rel < WIDEST:
        raise UserError(f"sigma is {sigma_rel:g}; want more than 0 and less than {WIDEST:.4f}, the width of the plain mean of all updates")


def gamma_of(sigma_rel: float) -> float:
    """Exponent of the power function whose relative width is `sigma_rel`: 0.05 → 16.97. The inverse of `sigma_of`."""
    k = sigma_rel**-2
    return float(np.roots([1.0, 7.0, 16.0 - k, 12.0 - k]).real.max())


def sigma_of(gamma: float) -> float:
    """Relative width of the power function with exponent `gamma`: (γ+1) / ((γ+2)² (γ+3)) is its square."""
    return float(np.sqrt((gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3))))


def decay(n: int, gamma: float, update_every: int = 1, *, corrected: bool = True) -> float:
    """How much of the average stays at update n ≥ 1; `corrected` for the `update_every` updates that one stands for."""
    if not corrected:
        return (1 - 1 / (n + 1)) ** (1 + gamma)
    both = (1 - 1 / (n + 1)) ** (1 + gamma) * (1 - 1 / (n + 1 + update_every)) ** (1 + gamma)
    return float(both ** (update_every / 2))


@dataclass(frozen=True)
class Profile:
    """A power-function average: after `n` updates, with exponent `gamma`."""

    gamma: float
    n: int

    @classmethod
    def of(cls, sigma_rel: float, n: int) -> "Profile":
        """The average of this width, its exponent rounded to float32 as the published system does."""
        return cls(float(np.float32(gamma_of(sigma_rel))), n)


def overlap(a: Profile, b: Profile) -> float:
    """Inner product of two profiles, both of unit area."""
    exponent = b.gamma if a.n < b.n else -a.gamma
    return float((a.gamma + 1) * (b.gamma + 1) * (a.n / b.n) ** exponent / ((a.gamma + b.gamma + 1) * max(a.n, b.n)))


@dataclass(frozen=True)
class Fit:
    """The combination of stored profiles closest to a wanted one: a weight each, and the distance that remains.

    `error` is the L2 norm of the difference of the profiles over that of the wanted one: 0 is exact, 1 as good as nothing.
    """

    wanted: Profile
    weights: Weights
    error: float


def fit_profile(stored: Sequence[Profile], wanted: Profile) -> Fit:
    """Combine stored profiles in the least-squares sense, in float64; one that is the wanted one stands for itself."""
    if wanted in stored:
        return Fit(wanted, np.eye(len(stored))[stored.index(wanted)], 0.0)
    products = np.array([[overlap(a, b) for b in stored] for a in stored])
    with_wanted = np.array([overlap(a, wanted) for a in stored])
    weights = np.linalg.solve(products, with_wanted)
    rest = 1 - (2 * with_wanted - products @ weights) @ weights / overlap(wanted, wanted)
    return Fit(wanted, weights, float(np.sqrt(max(rest, 0.0))))
