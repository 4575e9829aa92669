"""Spectral, Fréchet and kernel distances.

`spectral_distance` asks whether the timbre of one clip is right. It compares long-term average spectra: power is
averaged over time first, so each spectrum is weighted by energy, a shift in time costs nothing, and silence between
events does not count. (Frame by frame, an event one frame late differs from the truth as much as another event does.)
`frechet_distance` compares sets (Dowson and Landau 1982; Heusel et al. 2017), here fed with mel statistics;
`frechet_of_rows` compares sets of features of any model, and `cosines` pairs of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmaudio.metrics.spectrum import Analysis, Floats, band_power, decibels

_SPECTRUM = Analysis(window_s=0.064, hop_s=0.016, num_bands=40, low_hz=40.0, high_hz=8000.0)
_TIMBRE_FLOOR_DB = -40.0  # below the loudest band
_SILENCE_DB = -60.0  # below full scale, loudest band on average over time; a quieter sound has no timbre
_STATISTICS_FLOOR_DB = -80.0  # below full scale
FEWEST_FRAMES = 2  # of a set: a covariance needs two
FEWEST_ITEMS = 2
_LEAST_LENGTH = 1e-8  # of a vector whose direction is asked for


def average_spectrum_db(wave: npt.ArrayLike, rate_hz: int) -> Floats:
    """Long-term average spectrum, (bands,) in [-40, 0] dB relative to the loudest band; all -40 for silence.

    Level is taken out (the loudest band is 0 dB), so a right sound played softly is still right. The floor lies where
    the noise of a phase-free vocoder would otherwise fill the valleys of a pure sound.

    Raises: ValueError for another shape or samples that are not finite.
    """
    power = band_power(wave, rate_hz, _SPECTRUM)
    average = power.mean(axis=0) if len(power) else np.zeros(_SPECTRUM.num_bands)
    if average.max() < 10 ** (_SILENCE_DB / 10):
        return np.full(_SPECTRUM.num_bands, _TIMBRE_FLOOR_DB)
    return decibels(average / average.max(), _TIMBRE_FLOOR_DB)


def spectral_distance(wave_a: npt.ArrayLike, wave_b: npt.ArrayLike, rate_hz: int) -> float:
    """Mean absolute difference of two long-term average spectra over mel bands, in dB, in [0, 40].

    0 for the same timbre at any level, time and number of events, and for two silences.

    Args:
        wave_a, wave_b: (samples,) each, of any lengths.
        rate_hz: the sampling rate of both.
    Raises: ValueError for another shape or samples that are not finite.
    """
    return float(np.abs(average_spectrum_db(wave_a, rate_hz) - average_spectrum_db(wave_b, rate_hz)).mean())


@dataclass(frozen=True)
class MelStatistics:
    """Mean (bands,) and covariance (bands, bands) of the log-mel frames of a set of sounds, in dB, float64."""

    mean: Floats
    covariance: Floats
    num_frames: int


class MelTally:
    """Gathers the log-mel frames of a set wave by wave, so that a set of any size needs no more memory than one wave."""

    def __init__(self, rate_hz: int) -> None:
        self.rate_hz = rate_hz
        self.num_frames = 0
        self._sum = np.zeros(_SPECTRUM.num_bands)
        self._products = np.zeros((_SPECTRUM.num_bands, _SPECTRUM.num_bands))

    def add(self, wave: npt.ArrayLike) -> None:
        """Count a wave, (samples,), full scale 1; level matters. Raises: ValueError for samples that are not finite."""
        # Counted from the floor, which keeps the sums small and their difference exact.
        level_db = decibels(band_power(wave, self.rate_hz, _SPECTRUM), _STATISTICS_FLOOR_DB) - _STATISTICS_FLOOR_DB
        self.num_frames += len(level_db)
        self._sum += level_db.sum(axis=0)
        self._products += level_db.T @ level_db

    @classmethod
    def joined(cls, tallies: "Sequence[MelTally]", rate_hz: int) -> "MelTally":
        """What was gathered by all of them, at one rate."""
        whole = cls(rate_hz)
        for tally in tallies:
            whole.num_frames += tally.num_frames
            whole._sum += tally._sum
            whole._products += tally._products
        return whole

    def statistics(self) -> MelStatistics:
        """What was gathered. Raises: ValueError for fewer than two frames."""
        if self.num_frames < FEWEST_FRAMES:
            raise ValueError(f"{self.num_frames} frames of sound in the set; its spread needs at least {FEWEST_FRAMES}")
        mean = self._sum / self.num_frames
        covariance = (self._products - self.num_frames * np.outer(mean, mean)) / (self.num_frames - 1)
        return MelStatistics(mean + _STATISTICS_FLOOR_DB, covariance, self.num_frames)


def _square_root(covariance: Floats) -> Floats:
    """The symmetric square root of a covariance; eigenvalues that rounding made negative count as 0."""
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    return (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T


def frechet_distance(mean_a: npt.ArrayLike, cov_a: npt.ArrayLike, mean_b: npt.ArrayLike, cov_b: npt.ArrayLike) -> float:
    """Fréchet distance of two normal distributions: |mean_a - mean_b|² + tr(A + B - 2 (A B)^(1/2)), float64.

    The last term is the sum of the singular values of A^(1/2) B^(1/2), which stays real and exact where the covariances
    are singular (fewer items than dimensions); a general matrix square root does not.

    Args:
        mean_a, mean_b: (dims,).
        cov_a, cov_b: (dims, dims), symmetric, not negative.
    Returns: at least 0; 0 for equal distributions up to rounding.
    Raises: ValueError for shapes that do not fit or entries that are not finite.
    """
    mu_a, mu_b, a, b = (np.asarray(part, dtype=np.float64) for part in (mean_a, mean_b, cov_a, cov_b))
    if mu_a.ndim != 1 or mu_a.shape != mu_b.shape or not a.shape == b.shape == (len(mu_a), len(mu_a)):
        raise ValueError(f"means of shapes {mu_a.shape}, {mu_b.shape} and covariances of shapes {a.shape}, {b.shape} do not fit")
    if not all(np.isfinite(part).all() for part in (mu_a, mu_b, a, b)):
        raise ValueError("means and covariances must be finite numbers; one set holds NaN or infinity")
    shared = np.linalg.svd(_square_root(a) @ _square_root(b), compute_uv=False).sum()
    return max(0.0, float(np.square(mu_a - mu_b).sum() + np.trace(a) + np.trace(b) - 2 * shared))


def _centred(rows: npt.ArrayLike, words: str) -> tuple[Floats, Floats]:
    """Mean (dims,) and deviations (items, dims) of a set, scaled so that their products are the sample covariance."""
    values = np.asarray(rows, dtype=np.float64)
    if values.ndim != 2 or not values.shape[1]:
        raise ValueError(f"{words} set of features has shape {values.shape}; want (items, dims)")
    if len(values) < FEWEST_ITEMS:
        raise ValueError(f"{words} set holds {len(values)} items; the spread of a set needs at least {FEWEST_ITEMS}")
    if not np.isfinite(values).all():
        raise ValueError(f"{words} set of features holds NaN or infinity; make them anew")
    mean = values.mean(axis=0)
    return mean, (values - mean) / np.sqrt(len(values) - 1)


def _triangular(deviations: Floats) -> Floats:
    """As few rows as possible with the same products: R of Q R where there are more rows than dims."""
    return np.asarray(np.linalg.qr(deviations, mode="r")) if len(deviations) > deviations.shape[1] else deviations


def frechet_of_rows(rows_a: npt.ArrayLike, rows_b: npt.ArrayLike) -> float:
    """Fréchet distance of two sets of features by their means and sample covariances (divisor N - 1), float64.

    The covariances A = Xᵀ X and B = Yᵀ Y of scaled deviations are never formed: A B has the eigenvalues of (X Yᵀ)(X Yᵀ)ᵀ, so
    the trace of its root is the sum of the singular values of X Yᵀ. That is real, exact where there are fewer items than
    dims, and then costs only as much as there are items.

    Args:
        rows_a, rows_b: (items, dims), of any number of items.
    Returns: at least 0; 0 for equal sets up to rounding.
    Raises: ValueError for fewer than two items, different dims, or features that are not finite.
    """
    (mean_a, a), (mean_b, b) = _centred(rows_a, "the first"), _centred(rows_b, "the second")
    if len(mean_a) != len(mean_b):
        raise ValueError(f"the sets have {len(mean_a)} and {len(mean_b)} dims; want features of one model")
    shared = np.linalg.svd(_triangular(a) @ _triangular(b).T, compute_uv=False).sum()
    return max(0.0, float(np.square(mean_a - mean_b).sum() + np.square(a).sum() + np.square(b).sum() - 2 * shared))


def cosines(rows_a: npt.ArrayLike, rows_b: npt.ArrayLike) -> Floats:
    """Cosine of each pair of rows, lengths floored at 1e-8: (items, dims) twice → (items,) in [-1, 1].

    Raises: ValueError for different or no rows, or features that are not finite.
    """
    a, b = np.asarray(rows_a, dtype=np.float64), np.asarray(rows_b, dtype=np.float64)
    if a.ndim != 2 or a.shape != b.shape or not a.size:
        raise ValueError(f"features of shapes {a.shape} and {b.shape} are no pairs; want (items, dims) twice")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("features hold NaN or infinity; make them anew")
    lengths = [np.maximum(np.linalg.norm(rows, axis=1), _LEAST_LENGTH) for rows in (a, b)]
    return (a * b).sum(axis=1) / (lengths[0] * lengths[1])


# ---- Kernel distance of two sets of features (KID, Bińkowski et al. 2018, 1801.01401): unbiased, so fit for small sets. Float64


@dataclass(frozen=True)
class KernelDistance:
    """Mean over random subsets and their population standard deviation."""

    mean: float
    std: float


def _kernel(a: Floats, b: Floats) -> Floats:
    return (a @ b.T / a.shape[1] + 1) ** 3


def squared_discrepancy(a: Floats, b: Floats) -> float:
    """Squared maximum mean discrepancy of two sets of m rows by the kernel (x·y / dims + 1)³, without the pairs of a row with itself."""
    m = len(a)
    within = sum(kernel.sum() - np.trace(kernel) for kernel in (_kernel(a, a), _kernel(b, b)))
    return float(within / (m * (m - 1)) - 2 * _kernel(a, b).sum() / m**2)


def kernel_distance(
    rows_a: npt.ArrayLike, rows_b: npt.ArrayLike, *, num_subsets: int = 100, subset_size: int = 1000, seed: int = 2020
) -> KernelDistance:
    """Mean and spread of the squared discrepancy over random subsets of both sets.

    Args:
        rows_a, rows_b: (items, dims).
        num_subsets: how many pairs of subsets are drawn, for each first one of `rows_a`.
        subset_size: rows of a subset, drawn without replacement.
        seed: of the draws.
    Raises: ValueError for sets smaller than a subset, of different widths, or not finite.
    """
    a, b = np.asarray(rows_a, dtype=np.float64), np.asarray(rows_b, dtype=np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"sets have shapes {a.shape} and {b.shape}; want (items, dims) each, of the same dims")
    if not 2 <= subset_size <= min(len(a), len(b)):
        raise ValueError(f"subsets of {subset_size} rows; want at least 2 and at most the {min(len(a), len(b))} rows of the smaller set")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("features hold NaN or infinity; make them anew")
    draw = np.random.RandomState(seed)
    values = [
        squared_discrepancy(a[draw.choice(len(a), subset_size, replace=False)], b[draw.choice(len(b), subset_size, replace=False)])
        for _ in range(num_subsets)
    ]
    return KernelDistance(float(np.mean(values)), float(np.std(values)))
