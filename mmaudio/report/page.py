"""Writes the page: one folder with index.html, its media and its pictures, whole or not at all."""

import json
import math
import shutil
from collections.abc import Sequence
from html import escape
from pathlib import Path

from mmaudio.base.files import atomic_folder
from mmaudio.report.content import Metric, Report, Sample, Track
from mmaudio.report.curves import chart, read_curves
from mmaudio.report.spectrograms import draw, shared_top_db, spectrogram
from mmaudio.report.template import PAGE, SCRIPT, STYLE

AUDIO_SUFFIXES = (".flac", ".wav", ".mp3", ".ogg", ".m4a")
LOSS_NAME = "loss"


def number_text(value: float | None) -> str:
    """A number for reading: three digits, a dash for one that cannot be told."""
    if value is None or not math.isfinite(value):
        return "–"
    is_whole = float(value).is_integer() or abs(value) >= 1000
    return f"{value:,.0f}" if is_whole and abs(value) < 1e9 else f"{value:.3g}"


def _headline(report: Report) -> str:
    tiles = "".join(f"<div><dt>{escape(label)}</dt><dd>{escape(text)}</dd></div>" for label, text in report.headline.items())
    return f'<dl class="tiles">{tiles}</dl>' if tiles else ""


def _metric_row(metric: Metric) -> str:
    interval = "" if metric.interval is None else f"{number_text(metric.interval[0])} to {number_text(metric.interval[1])}"
    value = f"{number_text(metric.value)} {escape(metric.unit)}".strip()
    cells = f'<td class="number">{value}</td><td class="number">{interval}</td><td class="note">{escape(metric.note)}</td>'
    return f'<tr><th scope="row">{escape(metric.name)}</th>{cells}</tr>'


def _metrics_section(metrics: Sequence[Metric]) -> str:
    if not metrics:
        return ""
    columns = '<th scope="col">Metric</th><th scope="col" class="number">Value</th><th scope="col" class="number">95 % interval</th>'
    rows = "".join(_metric_row(metric) for metric in metrics)
    table = f'<table><thead><tr>{columns}<th scope="col">What it is</th></tr></thead><tbody>{rows}</tbody></table>'
    return f'<section aria-labelledby="metrics"><h2 id="metrics">Metrics</h2><div class="panel">{table}</div></section>'


def _curves_section(metrics_log: Path | None) -> str:
    curves = read_curves(metrics_log) if metrics_log else {}
    kinds = sorted({name.rsplit("/", 1)[-1] for name in curves})
    charts = {kind: chart({name: points for name, points in curves.items() if name.rsplit("/", 1)[-1] == kind}, kind) for kind in kinds}
    loss = charts.pop(LOSS_NAME, "").replace(f"<figcaption>{LOSS_NAME}", "<figcaption>Loss", 1)
    more = "".join(charts.values())
    folded = f"<details><summary>More curves ({len(charts)})</summary>{more}</details>" if more else ""
    if not loss and not folded:
        return ""
    return f'<section aria-labelledby="training"><h2 id="training">Training</h2><div class="panel">{loss}{folded}</div></section>'


def _player(file: str, label: str) -> str:
    kind = "audio" if Path(file).suffix in AUDIO_SUFFIXES else "video"
    inline = " playsinline" if kind == "video" else ""
    return f'<{kind} class="player" controls preload="none"{inline} src="{escape(file)}" aria-label="{escape(label)}"></{kind}>'


def _picture_text(label: str, track: Track) -> str:
    heard = ", ".join(f"{time:.2f}" for time in track.onsets_s)
    return f"Spectrogram of the {label}; onsets at {heard} seconds" if heard else f"Spectrogram of the {label}; no onsets"


def _add_track(folder: Path, stem: str, label: str, track: Track) -> str:
    """Copy a track's media into the folder; the figure that shows it beside its spectrogram."""
    media = f"media/{stem}{track.media.suffix.lower()}"
    shutil.copyfile(track.media, folder / media)
    image = f'<img loading="lazy" src="media/{stem}.png" alt="{escape(_picture_text(label, track))}">'
    return f"<figure><figcaption>{escape(label.capitalize())}</figcaption>{_player(media, label)}{image}</figure>"


def _draw_tracks(folder: Path, stems: Sequence[str], tracks: Sequence[Track]) -> None:
    pictures = [spectrogram(track.wave, track.rate_hz) for track in tracks]
    top_db, duration_s = shared_top_db(pictures), max(picture.duration_s for picture in pictures)
    for place, (stem, track, picture) in enumerate(zip(stems, tracks, pictures, strict=True)):
        other = [onset for index, twin in enumerate(tracks) if index != place for onset in twin.onsets_s]
        draw(folder / f"media/{stem}.png", picture, top_db, duration_s, track.onsets_s, other)


def _add_card(folder: Path, index: int, sample: Sample) -> str:
    """Write a sample's files; its card. Files are named by place, so that any id will do."""
    tracks = {"generated sound": sample.generated} | ({"real sound": sample.real} if sample.real else {})
    stems = [f"{index:03d}_{label.split()[0]}" for label in tracks]
    _draw_tracks(folder, stems, list(tracks.values()))
    figures = "".join(_add_track(folder, stem, label, track) for stem, (label, track) in zip(stems, tracks.items(), strict=True))
    numbers = "".join(f"<div><dt>{escape(name)}</dt><dd>{number_text(value)}</dd></div>" for name, value in sample.numbers.items())
    finite = {name: value for name, value in sample.numbers.items() if value is not None and math.isfinite(value)}
    return (
        f'<li class="card" data-numbers="{escape(json.dumps(finite))}"><article aria-labelledby="sample-{index}">'
        f'<h3 id="sample-{index}">{escape(sample.id)}</h3><p class="caption">{escape(sample.caption)}</p>'
        f'<dl class="numbers">{numbers}</dl><div class="tracks">{figures}</div></article></li>'
    )


def _samples_section(folder: Path, samples: Sequence[Sample]) -> str:
    cards = "".join(_add_card(folder, index, sample) for index, sample in enumerate(samples))
    names = dict.fromkeys(name for sample in samples for name in sample.numbers)
    choices = "".join(f'<option value="{escape(name)}">{escape(name)}</option>' for name in names)
    toolbar = (
        '<div class="toolbar" hidden><label for="sort">Sort by</label>'
        f'<select id="sort"><option value="">order given</option>{choices}</select><button type="button">Lowest first</button>'
        '<output class="soft"></output></div>'
    )
    legend = "Triangles mark onsets heard in a sound, dotted lines those of the sound beside it; both pictures share one colour scale."
    heading = f'<h2 id="samples">Samples</h2><p class="soft">{legend}</p>'
    return f'<section aria-labelledby="samples">{heading}{toolbar if names else ""}<ul class="cards">{cards}</ul></section>'


PAGE_FILES = ("index.html", "media")


def write_page(folder: Path, report: Report) -> Path:
    """Write the page into `folder`, replacing it whole; an earlier page stays until the new one is complete.

    Args:
        folder: made if missing; everything the page needs is copied into it.
        report: what to show.
    Returns: the path of index.html, which opens from disk.
    Raises: UserError for a folder that holds anything but a page. OSError if a sample's media cannot be copied.
    """
    with atomic_folder(folder, PAGE_FILES) as temporary:
        (temporary / "media").mkdir()
        samples = _samples_section(temporary, report.samples) if report.samples else ""
        subtitle = f'<p class="soft">{escape(report.subtitle)}</p>' if report.subtitle else ""
        page = PAGE.substitute(
            title=escape(report.title),
            subtitle=subtitle,
            skip='<a class="skip" href="#samples">Skip to the samples</a>' if samples else "",
            headline=_headline(report),
            sections=_curves_section(report.metrics_log) + _metrics_section(report.metrics) + samples,
            style=STYLE,
            script=SCRIPT,
        )
        (temporary / "index.html").write_text(page, encoding="utf-8")
    return folder / "index.html"
