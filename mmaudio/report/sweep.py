"""A sweep over lengths of averaging, as a table and as the picture of its curve."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from PIL import Image

POOR_FIT = 0.05  # a larger fit error is marked: the average is not quite the one it stands for
LOG_RATIO = 20  # losses that span more are drawn on a logarithmic scale
_COMMENT = "Comment"
_SIZE_IN, _DPI = (7.0, 4.2), 120
_CURVE, _BEST, _LIVE = "#2f6db5", "#c8452b", "#777777"


def _told(loss: float | None) -> str:
    return "not finite" if loss is None else f"{loss:.6g}"


def _at(live: Mapping[str, Any]) -> str:
    return "" if live["step"] is None else f", iteration {live['step']:,}"


def sweep_table(told: Mapping[str, Any]) -> str:
    """The scores of a sweep, as its JSON file holds them, one line each, the best marked with a star."""
    lines = [f"{'sigma':>8}  {'validation loss':>15}  {'fit error':>9}"]
    for sigma, loss, error in zip(told["sigmas"], told["losses"], told["fit_errors"], strict=True):
        lines.append(f"{sigma:>8g}  {_told(loss):>15}  {error:>9.2%}{' *' if sigma == told['best']['sigma'] else ''}")
    if told["live"]:
        lines.append(f"{'none':>8}  {_told(told['live']['loss']):>15}  {'':>9} ({told['live']['file']}{_at(told['live'])})")
    return "\n".join(lines)


def draw_sweep(path: Path, told: Mapping[str, Any], title: str, mark: str = "") -> None:
    """Draw the loss over sigma (logarithmic) as a PNG: the best is marked, and a line is the loss without averaging.

    Args:
        told: what the JSON file of a sweep holds; a loss that is not finite (None) is a gap in the line.
        mark: that this program made it, and of what; a comment in the file.
    """
    losses = [math.nan if loss is None else loss for loss in told["losses"]]
    points = sorted(zip(told["sigmas"], losses, told["fit_errors"], strict=True))
    figure = Figure(figsize=_SIZE_IN, dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.plot([sigma for sigma, _, _ in points], [loss for _, loss, _ in points], "o-", color=_CURVE, label="averaged weights")
    poor = [(sigma, loss) for sigma, loss, error in points if error > POOR_FIT]
    if poor:
        label = f"fit error above {POOR_FIT:.0%}: too few snapshots for this width"
        axes.plot([sigma for sigma, _ in poor], [loss for _, loss in poor], "o", color="white", mec=_CURVE, label=label)
    best, live = told["best"], told["live"]
    if live and live["loss"] is not None:
        axes.axhline(live["loss"], color=_LIVE, linestyle="--", label=f"not averaged{_at(live)}: {live['loss']:.5g}")
    if best["loss"] is not None:
        label = f"best: sigma {best['sigma']:g}, {best['loss']:.5g}"
        axes.plot(best["sigma"], best["loss"], "*", color=_BEST, markersize=20, zorder=1.5, label=label)  # behind its own point
    axes.set_xscale("log")
    shown = [loss for loss in (*told["losses"], live and live["loss"]) if loss is not None]
    if shown and max(shown) > LOG_RATIO * min(shown) > 0:
        axes.set_yscale("log")
    axes.set_xticks([sigma for sigma, _, _ in points], labels=[f"{sigma:g}" for sigma, _, _ in points])
    axes.tick_params(axis="x", labelrotation=45)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set(title=title, xlabel="width of the average relative to the steps done, sigma", ylabel="validation loss")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=9)
    FigureCanvasAgg(figure).print_png(path, metadata={"Software": None, _COMMENT: mark or None})


def picture_mark(path: Path) -> str | None:
    """The comment in a PNG; None where there is no such file, or it has none."""
    try:
        with Image.open(path) as picture:
            return str(picture.info[_COMMENT])
    except (OSError, LookupError, ValueError, SyntaxError):
        return None
