"""What a run left is found by name, and every column has a label of its own."""

import json
from pathlib import Path

import pytest

from mmaudio.base.errors import UserError
from mmaudio.commands.report import SCORES_PATTERNS
from mmaudio.report.run_results import FoundRun, find_scores, heading, labels_of, read_all_scores, read_run_record, what_is_scored
from tests.report.pages import row, scores, write_scores


def run(folder, *names):
    for name in names:
        write_scores(folder / name, scores([row("x")]))
    return FoundRun(folder, folder.name, find_scores(folder, SCORES_PATTERNS))


def labels(*runs):
    return [file.column.label for file in read_all_scores(runs, must_read=False)[0]]


def test_scores_are_found_by_name(tmp_path):
    found = run(tmp_path / "a", "test-output_metrics.json", "scores.json", "scores_right.json", "summary.json", "ema_sweep.json")
    assert [path.name for path in found.scores] == ["scores.json", "scores_right.json", "test-output_metrics.json"]
    assert labels(found) == ["a", "right", "test"]


def test_columns_of_several_runs(tmp_path):
    a, b = run(tmp_path / "a", "scores.json"), run(tmp_path / "b", "test-output_metrics.json", "scores_x.json")
    assert labels(a, b) == ["a", "b · x", "b · test"]
    twice = run(tmp_path / "c", "scores.json", "output_metrics.json")
    assert labels(twice) == ["c", "c (scores.json)"]


def test_runs_of_one_name_are_told_apart():
    assert labels_of([Path("/out/a"), Path("/out/b")]) == ["a", "b"]
    assert labels_of([Path("/one/a"), Path("/two/a"), Path("/two/b")]) == ["one/a", "two/a", "b"]


def test_a_name_says_what_is_scored():
    names = ("scores_right.json", "test-output_metrics.json", "scores.json", "mine.json")
    assert [what_is_scored(Path(name), SCORES_PATTERNS) for name in names] == ["right", "test", "", "mine"]


def test_the_title_names_few_runs_and_counts_many():
    assert heading(["a"])[0] == "a"
    assert heading(["a", "b"]) == ("a and b", "2 runs compared: losses, scores, and sounds beside the real ones.")
    assert heading(list("abcd"))[0] == "a, b, c and d"
    assert heading(list("abcdef"))[0] == "a, b, c and 3 more"


def test_a_file_that_is_no_scores_is_left_out_with_a_note(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "scores_odd.json").write_text("{}")
    found = run(tmp_path / "a", "scores.json")
    files, notes = read_all_scores([found], must_read=False)
    assert len(files) == len(notes) == 1 and "scores_odd.json is no file of scores" in notes[0]
    with pytest.raises(UserError, match=r"scores_odd\.json is no file of scores"):
        read_all_scores([found], must_read=True)


def test_a_record_has_what_is_there(tmp_path):
    run(tmp_path / "a", "scores.json")
    record = read_run_record("a", tmp_path / "a" / "metrics.jsonl", tmp_path / "a" / "ema_sweep.json")
    assert (record.label, record.metrics_log, record.sweep) == ("a", None, None)
    told = {"sigmas": [0.1], "losses": [1.0], "fit_errors": [0.0], "best": {"sigma": 0.1, "loss": 1.0}, "live": None}
    (tmp_path / "a" / "ema_sweep.json").write_text(json.dumps(told))
    assert read_run_record("a", tmp_path / "none", tmp_path / "a" / "ema_sweep.json").sweep == told
    live = {"file": "x", "step": None, "loss": None}
    wrong = [{"sigmas": ["<b>"]}, {"losses": []}, {"best": {"sigma": "x", "loss": 1.0}}, {"live": live | {"step": "x"}}, {"sigmas": [0]}]
    for content in ([], *(told | each for each in wrong)):
        (tmp_path / "a" / "ema_sweep.json").write_text(json.dumps(content))
        with pytest.raises(UserError, match="is no sweep over averages"):
            read_run_record("a", tmp_path / "none", tmp_path / "a" / "ema_sweep.json")
    (tmp_path / "a" / "ema_sweep.json").write_text(json.dumps(told | {"live": live}))
    assert read_run_record("a", tmp_path / "none", tmp_path / "a" / "ema_sweep.json").sweep is not None
