"""The bootstrap against the normal interval, and what it refuses."""

import numpy as np
import pytest

from mmaudio.metrics.intervals import bootstrap_interval


def test_the_interval_is_near_the_normal_one():
    values = np.random.default_rng(0).normal(0.3, 0.5, 400)
    low, high = bootstrap_interval(values, seed=1, num=4000)
    half = 1.96 * values.std(ddof=1) / 20
    assert (low, high) == (pytest.approx(values.mean() - half, abs=0.006), pytest.approx(values.mean() + half, abs=0.006))


def test_a_seed_gives_one_interval_and_a_lower_level_a_narrower_one():
    values = np.random.default_rng(0).normal(size=50)
    low, high = bootstrap_interval(values, seed=1)
    assert (low, high) == bootstrap_interval(values, seed=1)
    assert (low, high) != bootstrap_interval(values, seed=2)
    inner_low, inner_high = bootstrap_interval(values, seed=1, level=0.5)
    assert low < inner_low < inner_high < high


def test_equal_differences_give_a_point():
    assert bootstrap_interval([0.25] * 5, seed=0) == (0.25, 0.25)


@pytest.mark.parametrize(
    ("values", "word"), [([], "two clips"), ([0.5], "two clips"), ([0.5, np.nan], "finite"), ([0.1, np.inf], "finite")]
)
def test_what_gives_no_interval_is_said(values, word):
    with pytest.raises(ValueError, match=word):
        bootstrap_interval(values, seed=0)
