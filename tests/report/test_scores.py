"""Files of scores, new and old, become columns; unlike protocols are found; the table marks the best and says what is missing."""

import pytest

from mmaudio.base.errors import UserError
from mmaudio.report.content import Clips, Column, Value
from mmaudio.report.metric_table import best_of, metric_table
from mmaudio.report.numbers import number_text
from mmaudio.report.scores import clip_numbers, read_scores, unlike_fields
from tests.report.pages import row, scores, write_scores

METRICS = {
    "onset_f1": {"value": 0.6, "interval": [0.5, 0.7], "unit": "", "better": "higher", "num": 50},
    "FD-PASST": {"value": None, "interval": None, "unit": "", "better": "lower", "num": 0, "reason": "no weights"},
    "DeSync": {"value": 0.5, "interval": None, "unit": "s", "better": "lower", "num": 50},
}


def test_numbers_read_well():
    texts = [number_text(value) for value in (0.61234, 1.0, 15234.0, -0.0033333, None, float("nan"), 1234.56)]
    assert texts == ["0.612", "1", "15,234", "-0.00333", "–", "–", "1,235"]


def test_a_file_with_sections_only(tmp_path):
    column = read_scores(write_scores(tmp_path / "scores.json", scores([row("x")])), "a").column
    assert column.values["onset_f1_difference"] == Value(pytest.approx(0.35), (0.3, 0.4), better="higher")
    assert column.values["mel_frechet"] == Value(None, unit="dB²", better="lower", reason="too little sound")
    assert (column.values["onset_offset"].value, column.values["onset_offset"].better) == (0.01, "nearer 0")
    assert column.clips == Clips(50, 60, 1, 2, 0)
    lonely = {"generated": 0.6, "shuffled": None, "interval": None, "mean_offset_s": None, "reason": "only one clip"}
    values = read_scores(write_scores(tmp_path / "scores.json", scores([row("x")], onset_f1=lonely)), "a").column.values
    assert values["onset_f1_shuffled"].reason == values["onset_f1_difference"].reason == "only one clip"


def test_a_file_with_metrics(tmp_path):
    told = scores([row("x", metrics={"DeSync": 0.4, "IB-Score": None})], metrics=METRICS)
    read = read_scores(write_scores(tmp_path / "scores.json", told), "a")
    assert read.column.values["onset_f1"] == Value(0.6, (0.5, 0.7), "", "higher", 50)
    assert read.column.values["FD-PASST"].reason == "no weights"
    assert clip_numbers(read.clips[0]) == {"DeSync": 0.4, "IB-Score": None}
    assert clip_numbers(row("x")) == {"onset_f1": 0.5, "onset_offset": None, "spectral_distance": 2.0}


@pytest.mark.parametrize(
    "text", ["no json", "[]", "{}", '{"clips": 1, "counts": {}, "protocol": {}}', '{"clips": [{}], "counts": {}, "protocol": {}}']
)
def test_another_file_is_refused(tmp_path, text):
    (tmp_path / "scores.json").write_text(text)
    with pytest.raises(UserError, match=r"scores\.json is no file of scores"):
        read_scores(tmp_path / "scores.json", "a")


def column(label, protocol=None, **values):
    return Column(label, values, Clips(5, 6, 0, 1), protocol or {"version": 1})


def test_unlike_protocols_are_told_field_by_field():
    one, other = (
        {"version": 1, "sound": {"rate_hz": 16000}, "num_ids": 4},
        {"version": 1, "sound": {"rate_hz": 44100}, "seed": 0, "num_ids": 5},
    )
    assert unlike_fields([column("a", one), column("b", other)]) == {"sound.rate_hz": ["16000", "44100"], "seed": ["not told", "0"]}
    assert unlike_fields([column("a", one)]) == {}
    judged = [column(name, {"judges": judges}) for name, judges in (("a", {"x": 1}), ("b", {"x": 1, "y": 1}), ("c", {"y": 2}))]
    assert unlike_fields(judged[:2]) == {}, "only what both used has to be alike"
    assert unlike_fields(judged) == {"judges.y": ["not told", "1", "2"]}
    assert unlike_fields([]) == {}


def test_the_best_is_what_its_metric_says():
    def best(better, *numbers):
        return best_of([Value(number, better=better) for number in numbers])

    assert best("higher", 1.0, 3.0, None, 3.0) == {1, 3}
    assert best("lower", 1.0, 3.0) == {0}
    assert best("nearer 0", -1.0, 0.5, -0.2) == {2}
    assert best("", 1.0, 3.0) == best("higher", 1.0, None) == set()


def test_the_table_marks_the_best_only_where_columns_are_comparable():
    a = column("a", x=Value(1.0, (0.5, 1.5), better="higher"), y=Value(None, reason="no <weights>"))
    table = metric_table([a, column("b", x=Value(2.0, better="higher"))])
    assert table.count("★ best") == 1 and "not comparable" not in table
    assert "0.5 to 1.5" in table and "higher is better" in table and "5 of 6" in table
    assert 'title="no &lt;weights&gt;"' in table and "<li id=" in table, "the reason is there to see, not only to point at"
    table = metric_table([a, column("b", {"version": 2}, x=Value(2.0, better="higher"))])
    assert "★ best" not in table
    assert "not comparable" in table and "<code>version</code>: a 1; b 2" in table
    assert metric_table([]) == ""
