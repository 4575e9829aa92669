"""A sweep over lengths of averaging: a table, the chart of its curve, and a picture."""

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from PIL import Image

from mmaudio.report.charts import LEFT, RIGHT, WIDTH, ChartAxis, Line, framed, legend_key, marks_across, value_axis, value_rules

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


_MARGIN = 1.1  # of the axis of widths, as a factor on either side
_CLOSEST_PX = 46  # marks nearer than this to the one before are not written
Told = Mapping[str, Any]


def _points(told: Told) -> list[tuple[float, float, float]]:
    """(sigma, loss, fit error) in the order of sigma, without the losses that were no numbers."""
    rows = zip(told["sigmas"], told["losses"], told["fit_errors"], strict=True)
    return sorted((sigma, loss, error) for sigma, loss, error in rows if loss is not None)


def _live_loss(told: Told) -> float | None:
    live = told["live"]
    return live["loss"] if live else None


def _drawn(told: Told, style: str, across: ChartAxis, upward: ChartAxis) -> str:
    placed = [(across.place(sigma), upward.place(loss), error) for sigma, loss, error in _points(told)]
    if not placed:
        return ""
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y, _ in placed)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"{_hollow(error)}/>' for x, y, error in placed)
    best = told["best"]
    star = ""
    if best["loss"] is not None:
        x, y = across.place(best["sigma"]), upward.place(best["loss"])
        star = f'<circle class="ring" cx="{x:.1f}" cy="{y:.1f}" r="9"/><text class="best" x="{x:.1f}" y="{y - 14:.1f}">best</text>'
    loss = _live_loss(told)
    live = "" if loss is None else f'<path class="live" d="M{LEFT} {upward.place(loss):.1f}H{WIDTH - RIGHT}"/>'
    return f'<g class="series {style}"><path d="{path}"/>{dots}{star}{live}</g>'


def _hollow(error: float) -> str:
    return ' class="hollow"' if error > POOR_FIT else ""


def _marks(sigmas: Sequence[float], across: ChartAxis) -> list[tuple[float, str]]:
    placed: list[tuple[float, str]] = []
    for sigma in sorted(set(sigmas)):
        x = across.place(sigma)
        if not placed or x - placed[-1][0] >= _CLOSEST_PX:
            placed.append((x, f"{sigma:g}"))
    return placed


def _spoken(label: str, told: Told) -> str:
    best = told["best"]
    return f"{label}: no finite loss" if best["loss"] is None else f"{label}: best at sigma {best['sigma']:g}, loss {best['loss']:.5g}"


def sweep_chart(sweeps: Mapping[str, Told]) -> str:
    """Validation loss over the width of averaging, a line per run (label → what the sweep's JSON holds); "" for none."""
    sigmas = [sigma for told in sweeps.values() for sigma, _, _ in _points(told)]
    losses = [loss for told in sweeps.values() for _, loss, _ in _points(told)]
    if not losses:
        return ""
    across = ChartAxis(min(sigmas) / _MARGIN, max(sigmas) * _MARGIN, LEFT, WIDTH - RIGHT, is_log=True)
    live = [loss for told in sweeps.values() if (loss := _live_loss(told)) is not None]
    upward = value_axis([*losses, *live], from_zero=False)
    styles = {label: Line(label, [], colour).style for colour, label in enumerate(sweeps)}
    drawn = "".join(_drawn(told, styles[label], across, upward) for label, told in sweeps.items())
    tables = "".join(f"<h3>{escape(label)}</h3><pre>{escape(sweep_table(told))}</pre>" for label, told in sweeps.items())
    title = f"Validation loss by length of averaging{' (logarithmic scale)' if upward.is_log else ''}"
    figure = framed(
        title,
        "".join(legend_key(label, style) for label, style in styles.items()),
        f"{title}. " + "; ".join(_spoken(label, told) for label, told in sweeps.items()),
        value_rules(upward) + marks_across(_marks(sigmas, across), "sigma, the width relative to the steps done") + drawn,
    )
    note = '<p class="soft">A ring marks the best, a dashed line the weights that were not averaged, '
    note += "a hollow point an average its snapshots make poorly.</p>"
    return f"{figure}{note}<details><summary>As numbers</summary>{tables}</details>"
