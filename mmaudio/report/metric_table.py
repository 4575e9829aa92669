"""The table of metrics."""

import math
from collections.abc import Mapping, Sequence
from html import escape

from mmaudio.metrics.results import unlike_fields
from mmaudio.report.content import ScoreColumn, Value

# ---- What metrics are called, and a line on what each of them is; units and which way is better come from the scores

DIFFERENCE = "onset_f1_difference"
TITLES = {
    "onset_f1": "Onset F1",
    "onset_f1_shuffled": "Onset F1, shuffled",
    DIFFERENCE: "Onset F1, difference",
    "onset_offset": "Mean onset offset",
    "spectral_distance": "Spectral distance",
    "mel_frechet": "Mel Fréchet distance",
}
WHAT = {
    "onset_f1": "onsets that a generated sound shares with the real one of its clip",
    "onset_f1_shuffled": "the same against other clips’ real sounds: what chance gives",
    DIFFERENCE: "generated less shuffled",
    "onset_offset": "how far apart in time the onsets are that agree, early or late",
    "spectral_distance": "between average spectra",
    "mel_frechet": "between the sets of mel frames",
    "FD-VGG": "Fréchet distance of VGGish features",
    "FD-PANN": "Fréchet distance of PANNs features",
    "FD-PASST": "Fréchet distance of PaSST features",
    "KL-PANNS-softmax": "divergence of what PANNs hears",
    "KL-PASST-softmax": "divergence of what PaSST hears",
    "ISC-PANNS-mean": "Inception score of PANNs: clear and varied sounds",
    "ISC-PANNS-std": "its spread over parts of the set",
    "ISC-PASST-mean": "Inception score of PaSST: clear and varied sounds",
    "ISC-PASST-std": "its spread over parts of the set",
    "IB-Score": "ImageBind: does the sound suit the picture",
    "DeSync": "how far apart in time Synchformer finds sound and picture",
    "LAION-CLAP-Score": "LAION-CLAP: does the sound suit the caption",
    "MS-CLAP-Score": "MS-CLAP: does the sound suit the caption",
}
UNLIKE = {  # what differs, of fields of a protocol whose values say nothing to a person
    "captions_hash": "the captions",
    "ids_hash": "the clips that were scored",
    "reference_hash": "the real sounds",
}
ORDER = tuple(dict.fromkeys((*TITLES, *WHAT)))


def title_of(name: str) -> str:
    """The name of a metric as a person reads it; a published key stays as it is."""
    return TITLES.get(name, name)


def in_order(names: set[str]) -> list[str]:
    """Names in the order of the table; those it does not know come last, by name."""
    return sorted(names, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))


# ---- Numbers as a person reads them


def number_text(value: float | None) -> str:
    """A number for reading: three digits, a dash for one that cannot be told."""
    if value is None or not math.isfinite(value):
        return "–"
    is_whole = float(value).is_integer() or abs(value) >= 1000
    return f"{value:,.0f}" if is_whole and abs(value) < 1e9 else f"{value:#.3g}".rstrip(".")


def bytes_text(num_bytes: int) -> str:
    """A size on disk, in MB."""
    return f"{num_bytes / 1e6:,.1f} MB"


# ---- The table

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


def _row(name: str, columns: Sequence[ScoreColumn], is_comparable: bool, notes: _Footnotes) -> str:
    values = [column.values.get(name, NOTHING) for column in columns]
    best = best_of(values) if is_comparable else set()
    arrow = _ARROWS[next((value.better for value in values if value.better), "")]
    what = ". ".join(part for part in (WHAT.get(name, ""), arrow) if part)
    cells = "".join(_cell(value, place in best, notes) for place, value in enumerate(values))
    return f'<tr><th scope="row">{escape(title_of(name))}<span class="what">{escape(what)}</span></th>{cells}</tr>'


def _clip_rows(columns: Sequence[ScoreColumn]) -> str:
    """How many clips the numbers rest on, and how many are left out of them, where there are any."""
    left_out: Mapping[str, Sequence[int | None]] = {
        "Clips that failed": [column.clips.failed for column in columns],
        "Clips without a generated sound": [column.clips.missing for column in columns],
    }
    rows = {"Clips scored": [f"{column.clips.paired} of {column.clips.reference}" for column in columns]}
    rows |= {name: [number_text(num) for num in nums] for name, nums in left_out.items() if any(nums)}
    cells = {name: "".join(f'<td class="number">{escape(text)}</td>' for text in texts) for name, texts in rows.items()}
    return "".join(f'<tr class="clips"><th scope="row">{name}</th>{text}</tr>' for name, text in cells.items())


def _banner(columns: Sequence[ScoreColumn], unlike: Mapping[str, Sequence[str]]) -> str:
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


def metric_table(columns: Sequence[ScoreColumn]) -> str:
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
