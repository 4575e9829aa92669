"""The one shape of results: entries of metrics, counts, and what two results must share."""

from mmaudio.metrics.registry import METRICS
from mmaudio.metrics.results import PROTOCOL_VERSION, counted, headline, is_incomplete, metric_values, number_of, result


def test_an_entry_has_a_reason_where_it_has_no_value():
    row = METRICS["onset_offset"]
    told = {"value": 0.5, "interval": [0.25, 0.75], "unit": "s", "better": "lower", "num": 3}
    assert row.entry(0.5, interval=(0.25, 0.75), num=3) == told
    null = {"value": None, "interval": None, "unit": "s", "better": "lower", "num": 0, "reason": "no onset"}
    assert row.entry(None, reason="no onset") == null


def test_a_result_counts_and_says_what_it_rests_on():
    rows = [METRICS["onset_f1"], METRICS["mel_frechet"]]
    counts = counted(["a", "b", "c"], {"c": 1, "b": 2, "x": 3})
    assert counts == {"reference": 3, "predicted": 3, "paired": 2, "missing_ids": ["a"], "unexpected_ids": ["x"]}
    metrics = {"onset_f1": rows[0].entry(0.5, num=1), "mel_frechet": rows[1].entry(None, reason="one clip")}
    failed = [{"id": "c", "reason": "torn"}]
    told = result(rows, counts=counts, metrics=metrics, clips=[{"id": "b"}], failed=failed, sections={"more": 1}, protocol={"seed": 0})
    assert list(told) == ["format_version", "counts", "metrics", "more", "clips", "failed", "protocol"]
    assert (told["counts"]["paired"], told["counts"]["failed"]) == (1, 1)
    shared = told["protocol"]
    assert (shared["version"], shared["metrics"], shared["seed"]) == (PROTOCOL_VERSION, {"onset_f1": 1, "mel_frechet": 1}, 0)
    other = result(rows, counts=counts, metrics=metrics, clips=[{"id": "c"}], protocol={})
    assert other["protocol"]["ids_hash"] != shared["ids_hash"]
    assert metric_values(told) == {"onset_f1": 0.5}
    untold = "not told, for the reasons in the file: mel_frechet"
    assert headline(told) == f"1 of 3 clips scored: onset_f1 0.5; {untold}; 1 more sound of no clip of the reference"
    whole = {**told, "failed": [], "counts": {**told["counts"], "missing_ids": []}}
    assert is_incomplete(told, [])
    assert is_incomplete(whole, ["mel_frechet"])
    assert not is_incomplete(whole, ["onset_f1"])
    assert is_incomplete({**whole, "judged": {"not_judged": {"predicted": {"b": "too short"}}}}, ["onset_f1"])


def test_what_is_no_finite_number_is_none():
    assert [number_of(told) for told in (1, 0.5, 10**400, float("nan"), True, "1", None, [1])] == [1.0, 0.5, *[None] * 6]
