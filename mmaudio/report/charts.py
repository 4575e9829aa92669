"""Curves over steps as SVG."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path

from mmaudio.files.atomic import parse_json

WIDTH, HEIGHT = 920, 300
LEFT, RIGHT, TOP, BOTTOM = 72, 32, 14, 40  # margins
LOG_RATIO = 20  # a larger span of positive values is drawn on a logarithmic scale


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) inside [low, high]; the one number where both are the same."""
    if low == high:
        return [low]
    raw = (high - low) / most
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


@dataclass(frozen=True)
class ChartAxis:
    """Maps values onto pixels, linearly or by their logarithm. An axis of one value has it in the middle."""

    low: float
    high: float
    start_px: float
    end_px: float
    is_log: bool = False

    def place(self, value: float) -> float:
        """The pixel of a value."""
        if self.low == self.high:
            return (self.start_px + self.end_px) / 2
        low, high, value = (math.log(x) if self.is_log else x for x in (self.low, self.high, value))
        return self.start_px + (value - low) / (high - low) * (self.end_px - self.start_px)

    def marks(self) -> list[float]:
        """Round values along the axis; on a logarithmic one powers of ten, and 2 and 5 times these where there is room."""
        if not self.is_log or self.low == self.high:
            return ticks(self.low, self.high)
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        factors = (1, 2, 5) if len(powers) < 5 else (1,)
        marks = [factor * 10.0**power for power in powers for factor in factors]
        return [mark for mark in marks if self.low <= mark <= self.high]


def value_axis(values: Sequence[float], *, from_zero: bool = True) -> ChartAxis:
    """The upward axis of a chart of these values, with a margin around them; `from_zero` starts it there if that is near."""
    low, high = min(values), max(values)
    if low > 0 and high / low > LOG_RATIO:
        return ChartAxis(low / 1.15, high * 1.15, HEIGHT - BOTTOM, TOP, is_log=True)
    margin = 0.06 * (high - low)
    return ChartAxis(0.0 if from_zero and 0 <= low < 3 * (high - low) else low - margin, high + margin, HEIGHT - BOTTOM, TOP)


def step_axis(steps: Sequence[int]) -> ChartAxis:
    """The axis across a chart over steps."""
    return ChartAxis(min(steps), max(steps), LEFT, WIDTH - RIGHT)


def step_marks(axis: ChartAxis) -> list[int]:
    """Marks of an axis of steps: whole numbers only."""
    return [round(mark) for mark in axis.marks() if float(mark).is_integer()]


def value_rules(axis: ChartAxis) -> str:
    """Horizontal lines at an upward axis's marks, each with its value, as SVG."""
    parts = []
    for mark in axis.marks():
        y = axis.place(mark)
        rule = f'<path class="rule" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>'
        parts.append(f'{rule}<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{mark:.5g}</text>')
    return "".join(parts)


def marks_across(placed: Sequence[tuple[float, str]], unit: str) -> str:
    """Texts under a chart at (pixel, text), and what the axis counts, as SVG."""
    texts = [f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{text}</text>' for x, text in placed]
    middle = (LEFT + WIDTH - RIGHT) / 2
    return "".join([*texts, f'<text class="unit" x="{middle}" y="{HEIGHT - 4}" text-anchor="middle">{unit}</text>'])


# ---- Runs' numbers over their steps: read from their JSON lines, drawn as SVG that follows the page's colours

NUM_COLOURS, NUM_DASHES = 6, 4  # what the page's style knows
_MAX_POINTS = 400
_FEW_POINTS = 60  # a series with fewer is drawn with its points
_FIRST_STAGES = ("train", "valid")
Points = list[tuple[int, float]]


@dataclass(frozen=True)
class Line:
    """One line of a chart: what the legend calls it, and how it looks. Colours and dashes are counted from 0 and repeat."""

    label: str
    points: Points
    colour: int
    dash: int = 0

    @property
    def style(self) -> str:
        """The classes of its looks; where colours repeat, the dash goes on."""
        return f"s{self.colour % NUM_COLOURS} d{(self.dash + self.colour // NUM_COLOURS) % NUM_DASHES}"


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
            entry = parse_json(line)
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


def _kind(name: str) -> tuple[str, str]:
    stage, _, kind = name.partition("/")
    return stage, kind


def lines_by_kind(curves_of: Mapping[str, Mapping[str, Points]]) -> dict[str, list[Line]]:
    """What goes into one chart: kind (`loss`) → a line for each run and stage, kinds by name.

    Of one run, a colour stands for a stage; of several, a colour stands for a run, and a dash for a stage.
    """
    names = {name for curves in curves_of.values() for name in curves}
    rank = {stage: place for place, stage in enumerate(_FIRST_STAGES)}
    stages = sorted({_kind(name)[0] for name in names}, key=lambda stage: (rank.get(stage, len(rank)), stage))
    charts: dict[str, list[Line]] = {kind: [] for kind in sorted({_kind(name)[1] for name in names})}
    is_single = len(curves_of) == 1
    for run_place, (run, curves) in enumerate(curves_of.items()):
        for stage_place, stage in enumerate(stages):
            for kind, lines in charts.items():
                if points := curves.get(f"{stage}/{kind}"):
                    looks = (stage_place, 0) if is_single else (run_place, stage_place)
                    lines.append(Line(stage if is_single else f"{run} · {stage}", points, *looks))
    return charts


def _drawn(line: Line, across: ChartAxis, upward: ChartAxis) -> str:
    places = [(across.place(step), upward.place(value)) for step, value in thin(line.points)]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in places) if len(places) < _FEW_POINTS else ""
    return f'<g class="series {line.style}"><path d="{path}"/>{dots}</g>'


def legend_key(label: str, style: str) -> str:
    """An entry of a legend: a piece of the line itself, and its name."""
    swatch = f'<svg class="swatch" viewBox="0 0 30 8" aria-hidden="true"><g class="series {style}"><path d="M1 4H29"/></g></svg>'
    return f"<li>{swatch}{escape(label)}</li>"


def framed(title: str, legend: str, spoken: str, drawing: str) -> str:
    """A chart's figure: its title, its legend, and the drawing with a text for those who do not see it."""
    return (
        f'<figure class="chart"><figcaption>{escape(title)}<ul class="legend">{legend}</ul></figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(spoken)}">{drawing}</svg></figure>'
    )


def chart(lines: Sequence[Line], title: str) -> str:
    """A line chart as inline SVG with its legend; "" if no line has a point. Names are escaped.

    The value axis is logarithmic where all values are positive and span more than a factor of 20, and it says so.
    """
    shown = [line for line in lines if line.points]
    if not shown:
        return ""
    across = step_axis([step for line in shown for step, _ in line.points])
    upward = value_axis([value for line in shown for _, value in thin(line.points)])
    told = "; ".join(f"{line.label} from {line.points[0][1]:.4g} to {line.points[-1][1]:.4g}" for line in shown)
    grid = value_rules(upward) + marks_across([(across.place(mark), f"{mark:,}") for mark in step_marks(across)], "steps")
    return framed(
        f"{title}{' (logarithmic scale)' if upward.is_log else ''}",
        "".join(legend_key(line.label, line.style) for line in shown),
        f"{title} over training steps: {told}",
        grid + "".join(_drawn(line, across, upward) for line in shown),
    )
