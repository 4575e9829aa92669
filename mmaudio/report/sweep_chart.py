"""Sweeps over lengths of averaging, of one run or several, as one chart of the page and a table beneath it."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from mmaudio.report.axes import LEFT, RIGHT, WIDTH, Axis, marks_across, value_axis, value_rules
from mmaudio.report.curves import Line, framed, legend_key
from mmaudio.report.sweep import POOR_FIT, sweep_table

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


def _drawn(told: Told, style: str, across: Axis, upward: Axis) -> str:
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


def _marks(sigmas: Sequence[float], across: Axis) -> list[tuple[float, str]]:
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
    across = Axis(min(sigmas) / _MARGIN, max(sigmas) * _MARGIN, LEFT, WIDTH - RIGHT, is_log=True)
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
