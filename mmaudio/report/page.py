"""Writes the page: one folder with index.html, its media and its pictures, whole or not at all.

Its skeleton, style and scripts are the files of `assets/`, where `$name` marks the place of content, all of which is escaped. `player.js`
plays a sample: all its sounds run together at one position and all but one are muted, so that a switch is heard at once and moves
nothing. The sound that is heard is the clock and is never nudged; the others and the picture follow it, by speed where the difference
is small and by a jump where it is large. `list.js` is the list of samples: which are near, their order, the search and the keys.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from mmaudio.files.atomic import atomic_folder
from mmaudio.files.locks import hold_target
from mmaudio.files.ownership import aside_path
from mmaudio.report.cards import card
from mmaudio.report.charts import chart, lines_by_kind, read_curves
from mmaudio.report.content import Report, RunRecord, ScoreColumn, Written
from mmaudio.report.media_copies import PlacedSample, place_sample
from mmaudio.report.metric_table import in_order, metric_table, number_text, title_of
from mmaudio.report.page_mark import INDEX, MEDIA, check_page, foreign_in_page, marked_page
from mmaudio.report.sweep_chart import sweep_chart

LOSS = "loss"
PAGE_FILES = (INDEX, MEDIA)
_TILES = ("onset_f1", "onset_f1_shuffled", "spectral_distance")


def _asset(name: str) -> str:
    return files("mmaudio.report").joinpath("assets", name).read_text(encoding="utf-8")


def _headline(columns: Sequence[ScoreColumn]) -> str:
    """The few numbers that stand at the top of a page of one column; of several the table says it better."""
    if len(columns) != 1:
        return ""
    values = columns[0].values
    told = {title_of(name): f"{number_text(values[name].value)} {values[name].unit}".strip() for name in _TILES if name in values}
    told["Clips scored"] = f"{columns[0].clips.paired} of {columns[0].clips.reference}"
    tiles = "".join(f"<div><dt>{escape(label)}</dt><dd>{escape(text)}</dd></div>" for label, text in told.items())
    return f'<dl class="tiles">{tiles}</dl>'


def _section(name: str, title: str, content: str) -> str:
    return f'<section aria-labelledby="{name}"><h2 id="{name}">{title}</h2>{content}</section>' if content else ""


def _metrics(columns: Sequence[ScoreColumn], notes: Sequence[str]) -> str:
    told = "".join(f'<p class="soft">{escape(note)}</p>' for note in notes)
    content = metric_table(columns) + told
    return _section("metrics", "Metrics", f'<div class="panel">{content}</div>' if content else "")


def _curves(runs: Sequence[RunRecord]) -> str:
    curves = {run.label: read_curves(run.metrics_log) for run in runs if run.metrics_log}
    kinds = lines_by_kind({label: points for label, points in curves.items() if points})
    loss = chart(kinds.pop(LOSS, []), "Loss")
    more = "".join(chart(lines, title_of(kind)) for kind, lines in kinds.items())
    folded = f"<details><summary>More curves ({len(kinds)})</summary>{more}</details>" if more else ""
    return _section("training", "Training", f'<div class="panel">{loss}{folded}</div>' if loss or folded else "")


def _sweeps(runs: Sequence[RunRecord]) -> str:
    drawn = sweep_chart({run.label: run.sweep for run in runs if run.sweep is not None})
    return _section("averages", "Averages of weights", f'<div class="panel">{drawn}</div>' if drawn else "")


def _choices(samples: Sequence[PlacedSample], labels: Sequence[str]) -> str:
    """What samples can be sorted by: a group for each sound, in which its metrics are."""
    groups = []
    for key, label in enumerate(labels, start=1):
        sounds = [placed.sound for sample in samples for placed in sample.sounds if placed.sound.label == label]
        names = in_order({name for sound in sounds for name, value in sound.numbers.items() if value is not None})
        options = "".join(f'<option value="{key}:{escape(name)}">{escape(title_of(name))}</option>' for name in names)
        groups.append(f'<optgroup label="{escape(label)}">{options}</optgroup>' if options else "")
    return "".join(groups)


def _samples(samples: Sequence[PlacedSample], order: Sequence[str], units: Mapping[str, str]) -> str:
    if not samples:
        return ""
    present = {placed.sound.label for sample in samples for placed in sample.sounds}
    labels = [*(label for label in order if label in present), *sorted(present - set(order))]
    cards = "".join(card(sample, labels, units) for sample in samples)
    content = Template("".join(_asset("samples.html").splitlines()))
    return _section("samples", "Samples", content.substitute(choices=_choices(samples, labels), num_samples=len(samples), cards=cards))


def _page_folder(folder: Path, replaces: bool) -> AbstractContextManager[Path]:
    """A temporary folder that takes the place of an earlier page. Raises: UserError where something else is there, unless `replaces`."""
    if not replaces:
        check_page(folder)
    return atomic_folder(folder, PAGE_FILES, aside=aside_path(folder) if replaces and foreign_in_page(folder) is not None else None)


def write_page(folder: Path, report: Report, *, replaces: bool = False) -> Written:
    """Write the page into `folder`, replacing it whole; an earlier page stays until the new one is complete.

    Args:
        folder: made if missing; everything the page needs is copied into it, so that it can be moved.
        report: what to show.
        replaces: move a folder that holds anything but a page aside.
    Returns: the page, whose index.html opens from disk, and what its samples lack.
    Raises: UserError for a folder that holds anything but a page, or that another job writes. OSError if a sample's media cannot be copied.
    """
    with hold_target(folder, f"the page {folder}"), _page_folder(folder, replaces) as temporary:
        (temporary / MEDIA).mkdir()
        placed = [place_sample(temporary, index, sample) for index, sample in enumerate(report.samples)]
        units = {name: value.unit for column in report.columns for name, value in column.values.items()}
        samples = _samples(placed, report.sound_labels, units)
        page = Template(_asset("page.html")).substitute(
            title=escape(report.title),
            subtitle=f'<p class="soft">{escape(report.subtitle)}</p>' if report.subtitle else "",
            skip='<a class="skip" href="#samples">Skip to the samples</a>' if samples else "",
            headline=_headline(report.columns),
            sections=_metrics(report.columns, report.notes) + _curves(report.runs) + _sweeps(report.runs) + samples,
            style=_asset("page.css"),
            player=_asset("player.js"),
            list=_asset("list.js"),
        )
        (temporary / INDEX).write_text(marked_page(page, temporary / MEDIA, folder), encoding="utf-8")
        num_bytes = sum(file.stat().st_size for file in temporary.rglob("*") if file.is_file())
    return Written(folder / INDEX, len(placed), num_bytes, [lack for sample in placed for lack in sample.lacks])
