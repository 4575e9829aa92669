"""Curves are read from whatever a run left, and drawn as well-formed SVG."""

import math
import xml.etree.ElementTree as ET

import pytest

from mmaudio.report.charts import Line, chart, lines_by_kind, read_curves, step_axis, step_marks, thin, ticks, value_axis


def test_a_log_is_read_whatever_else_stands_in_it(tmp_path):
    log = tmp_path / "metrics.jsonl"
    lines = [
        '{"steps_done": 10, "train/loss": 2.0, "train/lr": 1e-4, "note": "text", "flag/on": true}',
        "",
        "not JSON",
        '{"train/loss": 9.0}',
        "[1, 2]",
        '{"steps_done": 20, "train/loss": 1.5, "valid/loss": 1.75, "train/grad_norm": NaN}',
        '{"steps_done": 30, "train/lo',
    ]
    log.write_text("\n".join(lines))
    assert read_curves(log) == {"train/loss": [(10, 2.0), (20, 1.5)], "train/lr": [(10, 1e-4)], "valid/loss": [(20, 1.75)]}
    assert read_curves(tmp_path / "none.jsonl") == {}


def test_steps_taken_again_after_a_resume_replace_the_first(tmp_path):
    log = tmp_path / "metrics.jsonl"
    log.write_text(
        "".join(f'{{"steps_done": {step}, "train/loss": {value}}}\n' for step, value in [(10, 5), (20, 4), (30, 3), (20, 3.5), (25, 3)])
    )
    assert read_curves(log) == {"train/loss": [(10, 5.0), (20, 3.5), (25, 3.0)]}


def test_thinning_keeps_the_mean_and_the_end():
    points = [(step, float(step % 2)) for step in range(1, 4001)]
    thinned = thin(points, 400)
    assert len(thinned) == 400
    assert thinned[-1][0] == 4000
    assert all(value == 0.5 for _, value in thinned)
    assert thin(points[:5], 400) == points[:5]


@pytest.mark.parametrize(
    ("low", "high", "marks"),
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]), (-1, 1, [-1, -0.5, 0, 0.5, 1]), (0, 3000, [0, 500]), (7, 7, [7])],
)
def test_ticks_are_round(low, high, marks):
    assert ticks(low, high)[: len(marks)] == pytest.approx(marks)


@pytest.mark.parametrize(
    ("steps", "marks"), [([5], [5]), ([5, 6], [5, 6]), ([0, 3], [0, 1, 2, 3]), ([0, 1000], [0, 200, 400, 600, 800, 1000])]
)
def test_steps_are_marked_by_whole_numbers(steps, marks):
    assert step_marks(step_axis(steps)) == marks


def test_one_value_has_one_mark_in_the_middle():
    axis = value_axis([0.0123])
    assert axis.marks() == [0.0123]
    assert axis.place(0.0123) == pytest.approx((14 + 260) / 2)


def parsed(svg):
    return ET.fromstring(svg)


@pytest.mark.parametrize("points", [[(1, 0.5)], [(1, 0.5), (2, 0.5)], [(0, -1.0), (5, 1.0)], [(1, 1e-6), (9, 10.0)], [(3, 0.0), (4, 0.0)]])
def test_any_points_give_a_chart_inside_its_frame(points):
    drawing = parsed(chart([Line("train", points, 0)], "loss")).find("svg")
    path = drawing.find("./g/path").get("d")
    places = [float(number) for number in path[1:].replace("L", " ").split()]
    assert all(math.isfinite(place) and 0 <= place <= 920 for place in places)
    assert len(drawing.findall(".//circle")) == len(points)
    for side in ("end", "middle"):
        marks = [text.text for text in drawing.findall("text") if text.get("text-anchor") == side]
        assert len(marks) == len(set(marks)), "no mark is written twice"


def test_a_chart_escapes_names_and_says_what_it_shows():
    figure = parsed(chart([Line("<a&b>", [(1, 100.0), (2, 1.0)], 0), Line("empty", [], 1)], "loss"))
    assert ["".join(key.itertext()) for key in figure.findall(".//li")] == ["<a&b>"]
    assert "logarithmic" in figure.find("figcaption").text
    assert "<a&b> from 100 to 1" in figure.findall("svg")[-1].get("aria-label")
    assert chart([Line("empty", [], 0)], "loss") == ""


def test_of_one_run_stages_have_colours_of_several_runs_do():
    points = [(1, 1.0)]
    alone = lines_by_kind({"a": {"valid/loss": points, "train/loss": points, "train/lr": points}})
    assert [(line.label, line.colour, line.dash) for line in alone["loss"]] == [("train", 0, 0), ("valid", 1, 0)]
    both = lines_by_kind({"a": {"train/loss": points, "valid/loss": points}, "b": {"valid/loss": points}})
    assert [(line.label, line.colour, line.dash) for line in both["loss"]] == [
        ("a · train", 0, 0),
        ("a · valid", 0, 1),
        ("b · valid", 1, 1),
    ]
    styles = {Line("x", points, colour).style for colour in range(24)}
    assert len(styles) == 24, "a dash tells apart what has one colour"
