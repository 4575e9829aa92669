"""A sample as a card: the picture, the sounds to switch between, what they look like, and its numbers."""

import json
from collections.abc import Mapping, Sequence
from html import escape

from mmaudio.report.charts import ticks
from mmaudio.report.media_copies import PlacedSample, PlacedSound
from mmaudio.report.metric_table import in_order, number_text, title_of
from mmaudio.report.waveforms import GAP_ROWS, HEIGHT_PX, HIGH_HZ, LOW_HZ, NUM_COLUMNS, NUM_ROWS, WAVE_ROWS

_MARKED_HZ = ((100, "100 Hz"), (1000, "1 kHz"), (4000, "4 kHz"))
_MOST_TICKS = 6


def _frequency_marks() -> str:
    """Texts at their heights on a picture, in per cent from its top."""
    from math import log

    marks = []
    for hz, text in _MARKED_HZ:
        share = 1 - log(hz / LOW_HZ) / log(HIGH_HZ / LOW_HZ)
        top = 100 * (WAVE_ROWS + GAP_ROWS + share * NUM_ROWS) / HEIGHT_PX
        marks.append(f'<span class="hz" style="top:{top:.1f}%">{text}</span>')
    return "".join(marks)


FREQUENCY_MARKS = _frequency_marks()


def _seconds(duration_s: float) -> str:
    marks = ticks(0, duration_s, _MOST_TICKS)
    return "".join(f'<span style="left:{100 * mark / duration_s:.2f}%">{mark:g} s</span>' for mark in marks if mark < 0.97 * duration_s)


def _described(placed: PlacedSound) -> str:
    heard = ", ".join(f"{time:.2f}" for time in placed.sound.onsets_s)
    return f"Waveform and spectrogram of {placed.sound.label}; {f'onsets at {heard} seconds' if heard else 'no onsets told'}"


def _track(placed: PlacedSound, duration_s: float) -> str:
    label = escape(placed.sound.label)
    if placed.picture is None:
        return f'<figure class="track"><figcaption>{label}</figcaption><p class="lack">{escape(placed.lack)}</p></figure>'
    image = (
        f'<img loading="lazy" decoding="async" width="{NUM_COLUMNS}" height="{HEIGHT_PX}" src="{escape(placed.picture)}"'
        f' alt="{escape(_described(placed))}">'
    )
    plot = f'<div class="plot">{image}{FREQUENCY_MARKS}<div class="playhead"></div></div>'
    return (
        f'<figure class="track" data-label="{label}" data-src="{escape(placed.media or "")}"><figcaption>{label}</figcaption>{plot}'
        f'<div class="seconds" aria-hidden="true">{_seconds(duration_s)}</div></figure>'
    )


def _switch(placed: PlacedSample, keys: Mapping[str, int]) -> str:
    buttons = "".join(
        f'<button type="button" class="hear" data-label="{escape(sound.sound.label)}" data-key="{keys[sound.sound.label]}"'
        f' aria-pressed="false"{"" if sound.media else " disabled"}><kbd aria-hidden="true">{keys[sound.sound.label]}</kbd>'
        f" {escape(sound.sound.label)}</button>"
        for sound in placed.sounds
    )
    return f'<div class="switch" role="group" aria-label="Sound that is heard">{buttons}</div>'


def _deck(placed: PlacedSample, keys: Mapping[str, int]) -> str:
    if not any(sound.media for sound in placed.sounds):
        return ""
    name = escape(placed.sample.id)
    return (
        f'<div class="deck"><button type="button" class="play" aria-label="Play {name}">▶ Play</button>'
        f'<input type="range" class="seek" min="0" max="{placed.duration_s:.2f}" step="0.1" value="0" aria-label="Position in seconds">'
        f'<span class="clock">0.0 / {placed.duration_s:.1f} s</span></div>{_switch(placed, keys)}'
    )


def _screen(placed: PlacedSample) -> str:
    if placed.video is None:
        return ""
    name = escape(f"Picture of {placed.sample.id}")
    return f'<video class="screen" muted playsinline preload="none" data-src="{escape(placed.video)}" aria-label="{name}"></video>'


def _captions(placed: PlacedSample) -> str:
    told = placed.sample.captions
    if len(told) == 1:
        return f'<p class="caption">{escape(next(iter(told)))}</p>'
    return "".join(
        f'<p class="caption"><span class="of">{escape(", ".join(labels))}:</span> {escape(text)}</p>' for text, labels in told.items()
    )


def sorting_numbers(placed: PlacedSample, keys: Mapping[str, int]) -> dict[str, float]:
    """What a card is sorted by: `<key of the sound>:<metric>` → value, without what cannot be told."""
    return {
        f"{keys[sound.label]}:{name}": value for sound in placed.sample.sounds for name, value in sound.numbers.items() if value is not None
    }


def _numbers(placed: PlacedSample, units: Mapping[str, str]) -> str:
    scored = [sound for sound in placed.sample.sounds if sound.numbers]
    names = in_order({name for sound in scored for name in sound.numbers})
    if not names:
        return ""
    heads = "".join(f'<th scope="col" class="number">{escape(sound.label)}</th>' for sound in scored)
    rows = "".join(
        f'<tr><th scope="row">{escape(title_of(name))}{_unit(name, units)}</th>'
        + "".join(f'<td class="number">{number_text(sound.numbers.get(name))}</td>' for sound in scored)
        + "</tr>"
        for name in names
    )
    return f'<table class="numbers"><thead><tr><td></td>{heads}</tr></thead><tbody>{rows}</tbody></table>'


def _unit(name: str, units: Mapping[str, str]) -> str:
    return f", {escape(units[name])}" if units.get(name) else ""


def _lacks(sentences: Sequence[str]) -> str:
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f'<ul class="lacks">{items}</ul>'


def card(placed: PlacedSample, labels: Sequence[str], units: Mapping[str, str]) -> str:
    """A card as HTML.

    Args:
        placed: the sample, its files in the page's folder.
        labels: those of all sounds of the page; a label's place is the key that switches to it.
        units: by metric, where there is one.
    """
    keys = {label: place for place, label in enumerate(labels, start=1)}
    name = f"sample-{placed.index}"
    numbers = json.dumps(sorting_numbers(placed, keys))
    left = _screen(placed) + _deck(placed, keys) + _lacks(placed.lacks) + _numbers(placed, units)
    tracks = "".join(_track(sound, placed.duration_s) for sound in placed.sounds)
    return (
        f'<li class="card" data-duration="{placed.duration_s:.4f}" data-numbers="{escape(numbers)}">'
        f'<article tabindex="-1" aria-labelledby="{name}"><h3 id="{name}">{escape(placed.sample.id)}</h3>{_captions(placed)}'
        f'<div class="sides"><div class="left">{left}</div><div class="tracks">{tracks}</div></div></article></li>'
    )
