"""Metrics by name and by group, and nothing loaded for it."""

import subprocess
import sys

import pytest

from mmaudio.base.errors import Problems
from mmaudio.metrics.feature_cache import CACHE_FILES
from mmaudio.metrics.formulas import FORMULAS
from mmaudio.metrics.registry import CACHED, EMBEDDED, METRICS, metric_versions, metrics_named
from tests.metrics.golden_caches import METRICS as GOLDEN

NEITHER_WAY = ("onset_f1_shuffled", "ISC-PANNS-std", "ISC-PASST-std")  # they tell how to read another number


def test_names_are_the_published_ones_in_their_order():
    assert list(CACHED) == list(GOLDEN["evaluate_full"])
    assert EMBEDDED == ("onset_f1", "onset_f1_shuffled", "onset_offset", "spectral_distance", "mel_frechet")


def test_words_are_names_or_groups_and_each_row_comes_once():
    problems = Problems()
    rows = metrics_named(["DeSync", "embedded", "FD-VGG", "onset_f1"], problems)
    assert [row.name for row in rows] == [*EMBEDDED, "FD-VGG", "DeSync"]
    assert len(metrics_named(["av_bench"], problems)) == 13
    assert metric_versions(rows)["DeSync"] == 1
    assert not problems.sentences


@pytest.mark.parametrize(("word", "meant"), [("FD-PAN", "FD-PANN"), ("avbench", "av_bench"), ("desync", "DeSync")])
def test_an_unknown_word_is_told_with_the_nearest(word, meant):
    problems = Problems()
    assert metrics_named([word], problems) == []
    assert f"there is no metric '{word}' (did you mean '{meant}'?)" in problems.sentences[0]


@pytest.mark.parametrize("row", METRICS.values(), ids=METRICS)
def test_rows_are_whole(row):
    assert (row.better == "") == (row.name in NEITHER_WAY) and row.better in ("lower", "higher", "")
    assert row.is_embedded or (row.formula in FORMULAS and row.predicted_stems)
    for stem in row.reference_stems + row.predicted_stems:
        assert stem in CACHE_FILES
        assert row.part in CACHE_FILES[stem].parts
    assert row.needs_pairs == row.name.startswith(("KL", "IB", "DeSync", "LAION", "MS")) or row.is_embedded


def test_listing_loads_no_torch():
    modules = "mmaudio.metrics.registry, mmaudio.metrics.feature_scores, mmaudio.metrics.comparison"
    code = f"import sys, {modules}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
