"""Files of scores become columns; the table marks the best, says what is missing, and in what columns are unlike."""

import json

import pytest

from mmaudio.base.errors import UserError
from mmaudio.report.content import Clips, ScoreColumn, Value
from mmaudio.report.metric_table import best_of, metric_table, number_text
from mmaudio.report.run_results import clip_numbers, read_scores
from tests.report.pages import row, scored, scores, write_scores

METRICS = {
    "onset_f1": {"value": 0.6, "interval": [0.5, 0.7], "unit": "", "better": "higher", "num": 50},
    "FD-PASST": {"value": None, "interval": None, "unit": "", "better": "lower", "num": 0, "reason": "no weights"},
    "DeSync": {"value": 0.5, "interval": None, "unit": "s", "better": "lower", "num": 50},
}


def test_numbers_read_well():
    texts = [number_text(value) for value in (0.61234, 1.0, 15234.0, -0.0033333, None, float("nan"), 1234.56, 0.53, 865.4)]
    assert texts == ["0.612", "1", "15,234", "-0.00333", "–", "–", "1,235", "0.530", "865"]


def test_a_file_of_scoring(tmp_path):
    read = read_scores(write_scores(tmp_path / "scores.json", scored()), "a")
    values, onsets = read.column.values, scored()["onset_f1"]
    assert (values["onset_f1"].value, values["onset_f1"].better, values["onset_f1"].num) == (0.5, "higher", 2)
    assert (values["onset_offset"].unit, values["onset_offset"].better) == ("s", "lower"), "it has no sign"
    assert values["onset_offset"].value == pytest.approx(0.02, abs=0.01)
    assert values["onset_f1_shuffled"].better == "", "what chance gives is there to compare with"
    assert values["mel_frechet"].unit == "dB²"
    chance = pytest.approx(onsets["generated"] - onsets["shuffled"])
    assert values["onset_f1_difference"] == Value(chance, tuple(onsets["interval"]), better="higher")
    assert read.column.clips == Clips(2, 2, 0, 0)
    assert clip_numbers(read.clips[0]).keys() == {"onset_f1", "onset_f1_shuffled", "onset_offset", "spectral_distance"}


def test_numbers_and_reasons_are_those_of_the_metrics(tmp_path):
    lonely = {**scored()["onset_f1"], "shuffled": None, "interval": None, "reason": "only one clip"}
    told = scores([row("x", metrics={"DeSync": 0.4, "IB-Score": None})], metrics=METRICS, onset_f1=lonely)
    read = read_scores(write_scores(tmp_path / "scores.json", told), "a")
    assert read.column.values["onset_f1"] == Value(0.6, (0.5, 0.7), "", "higher", 50)
    assert read.column.values["FD-PASST"].reason == "no weights"
    assert read.column.values["onset_f1_difference"].reason == "only one clip"
    assert clip_numbers(read.clips[0]) == {"DeSync": 0.4, "IB-Score": None}


@pytest.mark.parametrize("part", ["file", "row"])
def test_scores_without_metrics_are_to_be_made_anew(tmp_path, part):
    told = scores([row("x")])
    del (told if part == "file" else told["clips"][0])["metrics"]
    with pytest.raises(UserError, match="scores of an older version, without metrics; evaluate anew"):
        read_scores(write_scores(tmp_path / "scores.json", told), "a")


@pytest.mark.parametrize("place", ["paired", "failed", "num"])
def test_text_in_place_of_a_count_never_reaches_a_page(tmp_path, place):
    told = json.loads(json.dumps(scored()))
    (told["metrics"]["onset_f1"] if place == "num" else told["counts"])[place] = '2"><script>alert(1)</script>'
    with pytest.raises(UserError, match="is no file of scores"):
        read_scores(write_scores(tmp_path / "scores.json", told), "a")


@pytest.mark.parametrize(
    "text", ["no json", "[]", "{}", '{"clips": 1, "counts": {}, "protocol": {}}', '{"clips": [{}], "counts": {}, "protocol": {}}']
)
def test_another_file_is_refused(tmp_path, text):
    (tmp_path / "scores.json").write_text(text)
    with pytest.raises(UserError, match=r"scores\.json is no file of scores"):
        read_scores(tmp_path / "scores.json", "a")


def column(label, protocol=None, **values):
    return ScoreColumn(label, values, Clips(5, 6, 0, 1), protocol or {"version": 1})


def test_the_best_is_what_its_metric_says():
    def best(better, *numbers):
        return best_of([Value(number, better=better) for number in numbers])

    assert best("higher", 1.0, 3.0, None, 3.0) == {1, 3}
    assert best("lower", 1.0, 3.0) == {0}
    assert best("lower", 2.0, 2.0) == best("", 1.0, 3.0) == best("higher", 1.0, None) == set()


def test_what_intervals_do_not_tell_apart_is_best_together():
    def best(*intervals):
        return best_of([Value((low + high) / 2, (low, high), better="higher") for low, high in intervals])

    assert best((0.6, 0.8), (0.65, 0.8)) == set()
    assert best((0.6, 0.8), (0.65, 0.8), (0.1, 0.3)) == {0, 1}
    assert best((0.6, 0.8), (0.1, 0.3)) == {0}


def test_the_table_marks_the_best_only_where_columns_are_comparable():
    a = column("a", x=Value(1.0, (0.5, 1.5), better="higher"), y=Value(None, reason="no <weights>"))
    table = metric_table([a, column("b", x=Value(2.0, better="higher"))])
    assert table.count("★ best") == 1 and "not scored alike" not in table
    assert "0.500 to 1.50" in table and "higher is better" in table and "5 of 6" in table
    assert 'title="no &lt;weights&gt;"' in table and "<li id=" in table, "the reason is there to see, not only to point at"
    table = metric_table([a, column("b", {"version": 2}, x=Value(2.0, better="higher"))])
    assert "★ best" not in table
    assert "not scored alike" in table and "<code>version</code>: a 1; b 2" in table
    table = metric_table([column(name, {"captions_hash": name}) for name in "ab"])
    assert "What differs: the captions.<" in table, "a hash says nothing to a person"
    assert metric_table([]) == ""


def test_clips_that_are_left_out_are_told_where_there_are_any():
    assert "failed" not in metric_table([column("a"), ScoreColumn("b", {}, Clips(5, 5, 0, 0), {"version": 1})]), "none"
    assert "Clips without a generated sound" in metric_table([column("a")])
