"""Like results are compared clip by clip, unlike ones are refused by name."""

import numpy as np
import pytest

from mmaudio.base.errors import UserError
from mmaudio.metrics.comparison import compare_scores

NUM = 60


def result(shift=0.0, **values):
    clips = np.random.default_rng(0).normal(0.5, 0.1, NUM)
    entries = {"onset_f1": float(clips.mean()) + shift, "FD-VGG": 3.0, **values}
    return {
        "metrics": {name: {"value": value, "unit": "", "better": "lower", "num": NUM} for name, value in entries.items()},
        "clips": [{"id": f"clip.{i}", "metrics": {"onset_f1": value + shift, "spectral_distance": None}} for i, value in enumerate(clips)],
        "protocol": {"version": 1, "seed": 0, "ids_hash": "ab", "metrics": {"onset_f1": 1, "FD-VGG": 1}, "judges": {}},
    }


def rows(a, b):
    return {row.name: row for row in compare_scores(a, b)}


def test_a_difference_that_all_clips_share_has_an_interval_of_its_own_though_clips_vary():
    both = rows(result(), result(shift=0.02))
    row = both["onset_f1"]
    assert row.difference == pytest.approx(0.02)
    assert row.interval == (pytest.approx(0.02), pytest.approx(0.02))
    assert (row.num_clips, row.note, row.better) == (NUM, None, "lower")
    assert both["FD-VGG"].difference == 0 and both["FD-VGG"].interval is None
    assert "no number for each clip" in both["FD-VGG"].note


def test_the_interval_is_of_paired_differences_and_comes_of_the_seed():
    a, b = result(), result()
    noise = np.random.default_rng(1).normal(0, 0.1, NUM)
    for clip, more in zip(b["clips"], noise, strict=True):
        clip["metrics"]["onset_f1"] += more
    low, high = rows(a, b)["onset_f1"].interval
    half = 1.96 * noise.std(ddof=1) / np.sqrt(NUM)
    assert (low, high) == (pytest.approx(noise.mean() - half, abs=0.006), pytest.approx(noise.mean() + half, abs=0.006))
    assert compare_scores(a, b) == compare_scores(a, b)


def test_numbers_that_are_not_there_are_said():
    a, b = result(DeSync=None), result(DeSync=0.4)
    a["metrics"]["DeSync"]["reason"] = "no video"
    b["metrics"]["KL"] = {"value": 1.0}
    b["clips"].pop()
    found = rows(a, b)
    assert found["DeSync"].note == "none in the first: no video" and found["DeSync"].b == 0.4
    assert found["KL"].note == "not measured in the first result"
    assert found["onset_f1"].interval is None and found["onset_f1"].note == "1 clips have a number in one result alone"
    assert found["onset_f1"].difference == 0


def test_every_field_of_unlike_protocols_is_named_with_both_values():
    a, b = result(), result()
    b["protocol"] |= {"seed": 7, "metrics": {"onset_f1": 2}, "rate_hz": 16000}
    with pytest.raises(UserError) as refused:
        compare_scores(a, b)
    assert refused.value.sentences == (
        "seed is 0 in the first result and 7 in the second; evaluate both alike to compare them",
        "metrics.onset_f1 is 1 in the first result and 2 in the second; evaluate both alike to compare them",
        "rate_hz is not told in the first result and 16000 in the second; evaluate both alike to compare them",
    )


@pytest.mark.parametrize("part", ["protocol", "metrics"])
def test_a_file_of_something_else_is_refused(part):
    a, b = result(), result()
    del b[part]
    with pytest.raises(UserError, match=f"the second result has no {part}.*evaluate anew"):
        compare_scores(a, b)
