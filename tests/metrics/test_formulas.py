"""The formulas on features equal the golden figures and their closed forms, and say a sentence where there is no number."""

import numpy as np
import pytest

from mmaudio.metrics.distances import cosines, frechet_distance, frechet_of_rows, kernel_distance, squared_discrepancy
from mmaudio.metrics.formulas import inception_scores, kl_divergences, split_bounds
from tests.golden.fill import given
from tests.metrics.golden_caches import METRICS

GOLDEN = METRICS["elementary"]


def rows(tag, *shape):
    return given(f"metrics:{tag}", *shape).numpy()


def fd_sets():
    return rows("fd:a", 40, 6), 0.8 * rows("fd:b", 50, 6) + 0.3


def test_golden_frechet_distance_either_way():
    a, b = fd_sets()
    assert frechet_of_rows(a, b) == pytest.approx(GOLDEN["fd_ab"], rel=1e-5)
    assert frechet_of_rows(b, a) == pytest.approx(frechet_of_rows(a, b), rel=1e-12)


@pytest.mark.parametrize(("items", "dims"), [(40, 6), (30, 128), (2, 64), (5, 1), (200, 200)])
def test_a_set_is_no_distance_from_itself_and_the_two_ways_agree(items, dims):
    a, b = np.random.default_rng(items).normal(2, 30, (2, items, dims))
    assert frechet_of_rows(a, a) == pytest.approx(0, abs=1e-6)
    statistics = [(side.mean(axis=0), np.atleast_2d(np.cov(side, rowvar=False))) for side in (a, b)]
    assert frechet_of_rows(a, b) == pytest.approx(frechet_distance(*statistics[0], *statistics[1]), rel=1e-6)


def test_fewer_items_than_dims_give_a_number():
    a, b = (rows(f"fd:singular{which}", 5, 12).astype(np.float64) for which in ("", "2"))
    assert np.isfinite(frechet_of_rows(a, b)) and frechet_of_rows(a, b) > 0
    shifted = a + 3.0
    assert frechet_of_rows(a, shifted) == pytest.approx(12 * 9, rel=1e-9)


NOT_A_SET = {
    "one item": (np.zeros((1, 3)), "the second set holds 1 items; the spread of a set needs at least 2"),
    "none": (np.zeros((0, 3)), "the second set holds 0 items"),
    "NaN": (np.array([[0.0, 1.0, np.nan], [0.0, 1.0, 2.0]]), "the second set of features holds NaN or infinity"),
    "infinity": (np.full((2, 3), np.inf), "NaN or infinity"),
    "another width": (np.zeros((4, 2)), "3 and 2 dims"),
    "a vector": (np.zeros(3), r"shape \(3,\)"),
}


@pytest.mark.parametrize(("other", "words"), NOT_A_SET.values(), ids=NOT_A_SET.keys())
def test_a_frechet_distance_that_cannot_be_told_is_a_sentence(other, words):
    with pytest.raises(ValueError, match=words):
        frechet_of_rows(np.eye(3), other)


@pytest.mark.parametrize(("key", "options"), [("is_37x9", {}), ("is_noshuffle", {"shuffle": False}), ("is_splits4", {"num_splits": 4})])
def test_golden_inception_scores(key, options):
    scores = inception_scores(3 * rows("is:logits", 37, 9), **options)
    assert scores.mean() == pytest.approx(GOLDEN[key]["inception_score_mean"], rel=1e-6)
    assert scores.std() == pytest.approx(GOLDEN[key]["inception_score_std"], rel=1e-6)
    assert [list(bounds) for bounds in split_bounds(37, 10)] == GOLDEN["split_bounds_37_10"]


def test_inception_scores_of_certain_classes_are_their_number_however_large_the_logits():
    assert inception_scores(1e4 * np.tile(np.eye(4), (10, 1)), num_splits=1) == pytest.approx([4.0])
    assert inception_scores(np.zeros((20, 7))) == pytest.approx(np.ones(10))


def test_golden_kl_both_ways():
    p, q = 2 * rows("kl:p", 11, 7), 2 * rows("kl:q", 11, 7)
    assert kl_divergences(q, p).mean() == pytest.approx(GOLDEN["kl_pred_p_gt_q"]["kl_softmax"], rel=1e-6)
    assert kl_divergences(p, q).mean() == pytest.approx(GOLDEN["kl_pred_q_gt_p"]["kl_softmax"], rel=1e-6)
    assert kl_divergences(p, p + 5) == pytest.approx(np.zeros(11), abs=1e-12)


def test_golden_kernel_distance():
    got = kernel_distance(*fd_sets(), num_subsets=5, subset_size=20, seed=2020)
    assert got.mean == pytest.approx(GOLDEN["kid"]["kernel_inception_distance_mean"], rel=1e-6)
    assert got.std == pytest.approx(GOLDEN["kid"]["kernel_inception_distance_std"], rel=1e-6)
    assert squared_discrepancy(np.array([[0.0], [1.0]]), np.array([[0.0], [1.0]])) == pytest.approx(2 * 1.0 - (1 + 1 + 1 + 8) / 2)


def test_cosines():
    assert cosines([[1, 0], [1, 1], [0, 0]], [[2, 0], [-3, -3], [1, 0]]) == pytest.approx([1, -1, 0])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: inception_scores(np.zeros((9, 5))), "needs at least 10 clips; there are 9"),
        (lambda: inception_scores(np.zeros((0, 5))), "empty"),
        (lambda: inception_scores(np.full((12, 5), np.nan)), "NaN"),
        (lambda: inception_scores(np.zeros(12)), r"want \(clips, classes\)"),
        (lambda: kl_divergences(np.zeros((0, 5)), np.zeros((0, 5))), "empty"),
        (lambda: kl_divergences(np.zeros((2, 5)), np.zeros((2, 4))), "same clips"),
        (lambda: kl_divergences([[0.0, np.inf]], [[0.0, 1.0]]), "NaN or infinity"),
        (lambda: cosines(np.zeros((0, 5)), np.zeros((0, 5))), "no pairs"),
        (lambda: cosines(np.zeros((2, 5)), np.zeros((3, 5))), "no pairs"),
        (lambda: cosines([[np.nan]], [[1.0]]), "NaN"),
        (lambda: kernel_distance(np.zeros((5, 2)), np.zeros((9, 2)), subset_size=6), "at most the 5 rows"),
        (lambda: kernel_distance(np.zeros((5, 2)), np.zeros((9, 3)), subset_size=2), "same dims"),
        (lambda: kernel_distance(np.full((5, 2), np.nan), np.zeros((9, 2)), subset_size=2), "NaN"),
    ],
)
def test_what_cannot_be_told_is_a_sentence(make, words):
    with pytest.raises(ValueError, match=words):
        make()
