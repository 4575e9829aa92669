"""A run's numbers over its steps: read from its JSON lines, drawn as SVG that follows the page's colours."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path

WIDTH, HEIGHT = 920, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 32, 14, 40
_MAX_POINTS = 400
_LOG_RATIO = 20  # a larger span of positive values is drawn on a logarithmic scale
_FEW_POINTS = 60  # a series with fewer is drawn with its points

Points = list[tuple[int, float]]


def read_curves(path: Path) -> dict[str, Points]:
    """Series of a metrics.jsonl: name (`<stage>/<name>`) → (steps done, value), steps rising.

    A line is an object with the integer `steps_done` and numbers. Anything else is passed over: a line cut short by a
    kill, text, NaN. Where a resumed run took steps again, the later run's values stand.
    """
    curves: dict[str, Points] = {}
    if not path.is_file():
        return curves
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        step = entry.get("steps_done") if isinstance(entry, dict) else None
        if not isinstance(step, int) or isinstance(step, bool):
            continue
        for name, number in entry.items():
            is_number = isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(number)
            if "/" not in name or not is_number:
                continue
            points = curves.setdefault(name, [])
            while points and points[-1][0] >= step:
                points.pop()
            points.append((step, float(number)))
    return curves


def thin(points: Sequence[tuple[int, float]], most: int = _MAX_POINTS) -> Points:
    """At most `most` points, each the mean of as many neighbours as the others."""
    if len(points) <= most:
        return list(points)
    bounds = [len(points) * part // most for part in range(most + 1)]
    groups = [points[start:stop] for start, stop in pairwise(bounds)]
    return [(group[-1][0], math.fsum(value for _, value in group) / len(group)) for group in groups]


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) inside [low, high]."""
    raw = (high - low) / most
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


@dataclass(frozen=True)
class _Axis:
    """Maps values onto pixels, linearly or by their logarithm."""

    low: float
    high: float
    start_px: float
    end_px: float
    is_log: bool = False

    def place(self, value: float) -> float:
        low, high, value = (math.log(x) if self.is_log else x for x in (self.low, self.high, value))
        return self.start_px + (value - low) / (high - low) * (self.end_px - self.start_px)

    def marks(self) -> list[float]:
        if not self.is_log:
            return ticks(self.low, self.high)
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        marks = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
        return [mark for mark in marks if self.low <= mark <= self.high]


def _value_axis(values: Sequence[float]) -> _Axis:
    low, high = min(values), max(values)
    if low > 0 and high / low > _LOG_RATIO:
        return _Axis(low / 1.15, high * 1.15, HEIGHT - _BOTTOM, _TOP, is_log=True)
    margin = 0.06 * (high - low) or 0.5 * abs(high) or 1.0
    return _Axis(0.0 if 0 <= low < 3 * (high - low) else low - margin, high + margin, HEIGHT - _BOTTOM, _TOP)


def _grid(across: _Axis, upward: _Axis) -> str:
    right, bottom = WIDTH - _RIGHT, HEIGHT - _BOTTOM
    parts = []
    for mark in upward.marks():
        y = upward.place(mark)
        parts.append(
            f'<path class="rule" d="M{_LEFT} {y:.1f}H{right}"/><text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{mark:g}</text>'
        )
    for mark in across.marks():
        parts.append(f'<text x="{across.place(mark):.1f}" y="{bottom + 18}" text-anchor="middle">{mark:,.0f}</text>')
    parts.append(f'<text class="unit" x="{(_LEFT + right) / 2}" y="{HEIGHT - 4}" text-anchor="middle">steps</text>')
    return "".join(parts)


def _line(points: Points, across: _Axis, upward: _Axis, colour: int) -> str:
    places = [(across.place(step), upward.place(value)) for step, value in points]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in places) if len(places) < _FEW_POINTS else ""
    return f'<g class="series s{colour % 4}"><path d="{path}"/>{dots}</g>'


def chart(series: Mapping[str, Points], title: str) -> str:
    """A line chart as inline SVG with its legend; "" if no series has a point. Names are escaped.

    The value axis is logarithmic where all values are positive and span more than a factor of 20, and it says so.
    """
    shown = {name: thin(points) for name, points in series.items() if points}
    if not shown:
        return ""
    steps = [step for points in shown.values() for step, _ in points]
    across = _Axis(min(steps), max(max(steps), min(steps) + 1), _LEFT, WIDTH - _RIGHT)
    upward = _value_axis([value for points in shown.values() for _, value in points])
    lines = "".join(_line(points, across, upward, colour) for colour, points in enumerate(shown.values()))
    told = "; ".join(f"{name} from {points[0][1]:.4g} to {points[-1][1]:.4g}" for name, points in series.items() if points)
    keys = "".join(f'<li class="s{colour % 4}">{escape(name)}</li>' for colour, name in enumerate(shown))
    scale = " (logarithmic scale)" if upward.is_log else ""
    return (
        f'<figure class="chart"><figcaption>{escape(title)}{scale}<ul class="legend">{keys}</ul></figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(f"{title} over training steps: {told}")}">'
        f"{_grid(across, upward)}{lines}</svg></figure>"
    )
