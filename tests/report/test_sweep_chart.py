"""The chart of sweeps is well-formed SVG that marks the best, whatever the sweeps hold."""

import xml.etree.ElementTree as ET

from mmaudio.report.sweep_chart import sweep_chart


def sweep(losses, live=0.7):
    sigmas = [0.03, 0.05, 0.08][: len(losses)]
    finite = [(loss, sigma) for loss, sigma in zip(losses, sigmas, strict=True) if loss is not None]
    best = min(finite) if finite else (None, sigmas[0])
    told = {"sigmas": sigmas, "losses": losses, "fit_errors": [0.2, 0.0, 0.0][: len(losses)]}
    return {**told, "best": {"sigma": best[1], "loss": best[0]}, "live": live and {"file": "x", "step": 9, "loss": live}}


def test_runs_share_a_chart():
    figure = ET.fromstring(f"<div>{sweep_chart({'a<': sweep([0.5, 0.4, 0.45]), 'b': sweep([0.6, None, 0.3], live=None)})}</div>")
    drawing = figure.find("figure/svg")
    assert "a<: best at sigma 0.05, loss 0.4; b: best at sigma 0.08, loss 0.3" in drawing.get("aria-label")
    classes = [circle.get("class") for circle in drawing.findall(".//circle")]
    assert (classes.count("ring"), classes.count("hollow"), classes.count(None)) == (2, 2, 3)
    assert len([path for path in drawing.findall(".//path") if path.get("class") == "live"]) == 1
    assert [text.text for text in drawing.findall("text")][-4:-1] == ["0.03", "0.05", "0.08"]
    assert len(figure.findall(".//pre")) == 2


def test_a_sweep_of_one_point_or_none():
    assert "best at sigma 0.03" in sweep_chart({"a": sweep([0.5])})
    assert sweep_chart({"a": sweep([None], live=None)}) == ""
    assert sweep_chart({}) == ""
