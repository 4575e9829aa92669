"""The table and the picture of a sweep, from numbers alone."""

import numpy as np
from PIL import Image

from mmaudio.report.sweep_chart import draw_sweep, sweep_table


def sweep(losses, errors, live=1.36):
    sigmas = [0.03, 0.05, 0.08, 0.13, 0.25][: len(losses)]
    best = min((loss, sigma, error) for sigma, loss, error in zip(sigmas, losses, errors, strict=True) if loss is not None)
    return {
        "sigmas": sigmas,
        "losses": losses,
        "fit_errors": errors,
        "best": {"sigma": best[1], "loss": best[0], "fit_error": best[2]},
        "live": {"file": "birds_last.pth", "step": 9, "loss": live} if live else None,
    }


def test_table():
    lines = sweep_table(sweep([1.4, None, 1.26, 1.3, 1.5], [0.04, 0.0, 0.01, 0.0, 0.2])).splitlines()
    assert [line.split()[0] for line in lines] == ["sigma", "0.03", "0.05", "0.08", "0.13", "0.25", "none"]
    assert [line.endswith("*") for line in lines] == [False, False, False, True, False, False, False]
    assert "not finite" in lines[2] and "20.00%" in lines[5] and "1.36" in lines[6]
    assert lines[6].endswith("(birds_last.pth, iteration 9)")  # which may be another than that of the averages


def ink(path, colour):
    """Pixels of about this colour in each row of a picture."""
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"), dtype=int)
    return (np.abs(pixels - colour).sum(axis=2) < 30).sum(axis=1)


def test_picture(tmp_path):
    red, grey = (200, 69, 43), (119, 119, 119)
    draw_sweep(tmp_path / "all.png", sweep([1.4, None, 1.26, 1.3, 90.0], [0.04, 0.0, 0.01, 0.0, 0.2]), "birds")
    assert ink(tmp_path / "all.png", red).sum() > 100, "the best is marked"
    assert ink(tmp_path / "all.png", grey).max() > 200, "and there is a line for the weights without averaging"
    draw_sweep(tmp_path / "one.png", sweep([1.4], [0.0], live=None), "birds")
    assert ink(tmp_path / "one.png", red).sum() > 100
    assert ink(tmp_path / "one.png", grey).max() < 50
