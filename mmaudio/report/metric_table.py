"""The table of metrics across columns: values with intervals, the best marked, what cannot be told with its reason."""

from collections.abc import Mapping, Sequence
from html import escape

from mmaudio.base.protocols import unlike_fields
from mmaudio.report.content import Column, Value
from mmaudio.report.metric_names import UNLIKE, WHAT, in_order, title_of
from mmaudio.report.numbers import number_text

_ARROWS = {"higher": "↑ higher is better", "lower": "↓ lower is better", "": ""}
NOTHING = Value(None, reason="its scores do not have it")


class _Footnotes:
    """Numbers the reasons of a table; the same reason has one number."""

    def __init__(self) -> None:
        self._number_of: dict[str, int] = {}

    def mark(self, reason: str) -> str:
        """The reference to a reason, as HTML."""
        number = self._number_of.setdefault(reason, len(self._number_of) + 1)
        return f'<sup><a href="#reason-{number}" aria-label="reason {number}">{number}</a></sup>'

    def html(self) -> str:
        """The list of reasons, or ""."""
        items = "".join(f'<li id="reason-{number}">{escape(reason)}</li>' for reason, number in self._number_of.items())
        return f'<ol class="reasons soft" aria-label="Why a number is missing">{items}</ol>' if items else ""


def best_of(values: Sequence[Value]) -> set[int]:
    """Places of the best values, where at least two can be told and one way is better.

    Those that equal the best, or whose interval overlaps with its, are best with it; where that is all of them, none is.
    """
    told = {place: value for place, value in enumerate(values) if value.value is not None}
    better = next((value.better for value in values if value.better), "")
    if len(told) < 2 or not better:
        return set()
    best = (max if better == "higher" else min)(told.values(), key=lambda value: value.value or 0.0)
    chosen = {place for place, value in told.items() if value.value == best.value or _overlap(value.interval, best.interval)}
    return chosen if len(chosen) < len(told) else set()


def _overlap(a: tuple[float, float] | None, b: tuple[float, float] | None) -> bool:
    return a is not None and b is not None and max(a[0], b[0]) <= min(a[1], b[1])


def _cell(value: Value, is_best: bool, notes: _Footnotes) -> str:
    if value.value is None:
        return f'<td class="number" title="{escape(value.reason)}">–{notes.mark(value.reason)}</td>'
    rests_on = f' title="rests on {value.num} clips"' if value.num is not None else ""
    text = f"{number_text(value.value)} {escape(value.unit)}".strip()
    shown = f'<span class="mark">★ best</span> <strong>{text}</strong>' if is_best else text
    if value.interval:
        shown += f'<span class="interval">{number_text(value.interval[0])} to {number_text(value.interval[1])}</span>'
    return f'<td class="number{" best" if is_best else ""}"{rests_on}>{shown}</td>'


def _row(name: str, columns: Sequence[Column], is_comparable: bool, notes: _Footnotes) -> str:
    values = [column.values.get(name, NOTHING) for column in columns]
    best = best_of(values) if is_comparable else set()
    arrow = _ARROWS[next((value.better for value in values if value.better), "")]
    what = ". ".join(part for part in (WHAT.get(name, ""), arrow) if part)
    cells = "".join(_cell(value, place in best, notes) for place, value in enumerate(values))
    return f'<tr><th scope="row">{escape(title_of(name))}<span class="what">{escape(what)}</span></th>{cells}</tr>'


def _clip_rows(columns: Sequence[Column]) -> str:
    """How many clips the numbers rest on, and how many are left out of them, where there are any."""
    left_out: Mapping[str, Sequence[int | None]] = {
        "Clips that failed": [column.clips.failed for column in columns],
        "Clips without a generated sound": [column.clips.missing for column in columns],
    }
    rows = {"Clips scored": [f"{column.clips.paired} of {column.clips.reference}" for column in columns]}
    rows |= {name: [number_text(num) for num in nums] for name, nums in left_out.items() if any(nums)}
    cells = {name: "".join(f'<td class="number">{escape(text)}</td>' for text in texts) for name, texts in rows.items()}
    return "".join(f'<tr class="clips"><th scope="row">{name}</th>{text}</tr>' for name, text in cells.items())


def _banner(columns: Sequence[Column], unlike: Mapping[str, Sequence[str]]) -> str:
    """Says that columns are unlike, and in what: in words where there are some, else field by field with its values."""
    said = [words for name, words in UNLIKE.items() if name in unlike]
    values = {
        name: "; ".join(f"{escape(column.label)} {escape(value)}" for column, value in zip(columns, told, strict=True))
        for name, told in unlike.items()
        if name not in UNLIKE
    }
    fields = "".join(f"<li><code>{escape(name)}</code>: {text}</li>" for name, text in values.items())
    ending = f" {', '.join(said)}{', and' if fields else '.'}" if said else ""
    sentence = f"<strong>These columns were not scored alike</strong>, so no number is marked as the best. What differs:{ending}"
    return f'<div class="banner" role="note"><p>{sentence}</p>{f"<ul>{fields}</ul>" if fields else ""}</div>'


def metric_table(columns: Sequence[Column]) -> str:
    """A row per metric, a column per file of scores, as HTML; "" for no column.

    Where protocols differ, a banner says in what, and no value is marked as best.
    """
    if not columns:
        return ""
    notes, unlike = _Footnotes(), unlike_fields([column.protocol for column in columns])
    names = in_order({name for column in columns for name in column.values})
    heads = "".join(f'<th scope="col" class="number">{escape(column.label)}</th>' for column in columns)
    rows = "".join(_row(name, columns, not unlike, notes) for name in names)
    caption = (
        "<caption>Values, with 95 % intervals below them where they can be told. The best are marked: all whose interval overlaps with"
        " the best one’s, and none where that is every column.</caption>"
    )
    table = f'<table class="metrics">{caption}<thead><tr><th scope="col">Metric</th>{heads}</tr></thead>'
    table += f"<tbody>{rows}{_clip_rows(columns)}</tbody></table>"
    banner = _banner(columns, unlike) if unlike else ""
    return f'{banner}<div class="scroll" tabindex="0" role="region" aria-label="Table of metrics">{table}</div>{notes.html()}'
