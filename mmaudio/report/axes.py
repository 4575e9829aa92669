"""Axes of the page's charts: where a value lies in pixels, and which round values are marked."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

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
class Axis:
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


def value_axis(values: Sequence[float], *, from_zero: bool = True) -> Axis:
    """The upward axis of a chart of these values, with a margin around them; `from_zero` starts it there if that is near."""
    low, high = min(values), max(values)
    if low > 0 and high / low > LOG_RATIO:
        return Axis(low / 1.15, high * 1.15, HEIGHT - BOTTOM, TOP, is_log=True)
    margin = 0.06 * (high - low)
    return Axis(0.0 if from_zero and 0 <= low < 3 * (high - low) else low - margin, high + margin, HEIGHT - BOTTOM, TOP)


def step_axis(steps: Sequence[int]) -> Axis:
    """The axis across a chart over steps."""
    return Axis(min(steps), max(steps), LEFT, WIDTH - RIGHT)


def step_marks(axis: Axis) -> list[int]:
    """Marks of an axis of steps: whole numbers only."""
    return [round(mark) for mark in axis.marks() if float(mark).is_integer()]


def value_rules(axis: Axis) -> str:
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
