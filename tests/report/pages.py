"""What tests read a page with, and the sounds and scores they make pages of."""

import json
from html.parser import HTMLParser

import numpy as np

from mmaudio.media.audio import write_flac

RATE_HZ = 16_000
VOID = {"meta", "link", "img", "br", "input", "path", "circle"}


class Page(HTMLParser):
    """Collects tags, texts and files of a page, and checks that its tags close in order."""

    def __init__(self, path):
        super().__init__()
        self.open, self.tags, self.files, self.texts = [], [], [], []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.files += [
            value for name, value in attrs if name in ("src", "href", "data-src") and value and not value.startswith(("#", "data:"))
        ]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, text):
        if self.open and self.open[-1] not in ("script", "style"):
            self.texts.append(text)

    def named(self, tag, css_class=None):
        return [told for name, told in self.tags if name == tag and (css_class is None or css_class in told.get("class", "").split())]


def tone(pitch_hz, duration_s=1.0, rate_hz=RATE_HZ):
    return (0.5 * np.sin(2 * np.pi * pitch_hz * np.arange(round(duration_s * rate_hz)) / rate_hz)).astype(np.float32)


def write_tone(path, pitch_hz=400, duration_s=1.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_flac(path, tone(pitch_hz, duration_s), RATE_HZ)
    return path


def scores(rows, *, duration_s=1.0, **changes):
    """A file of scores as scoring writes it, of these rows."""
    onsets = {"generated": 0.6, "shuffled": 0.25, "interval": [0.3, 0.4], "mean_offset_s": 0.01, "tolerance_s": 0.1}
    counts = {"reference": 60, "predicted": 55, "paired": 50, "failed": 1, "missing_ids": ["a", "b"], "unexpected_ids": []}
    told = {
        "counts": counts,
        "onset_f1": onsets,
        "spectral_distance": {"mean": 3.0, "unit": "dB"},
        "mel_frechet": {"value": None, "unit": "dB^2", "reason": "too little sound"},
        "clips": rows,
        "failed": [],
        "protocol": {"version": 1, "duration_s": duration_s, "rate_hz": RATE_HZ, "ids_hash": "x"},
    }
    return {**told, **changes}


def row(clip_id, f1=0.5, **more):
    times = {"generated_onsets_s": [0.25], "real_onsets_s": [0.3, 0.6]}
    return {
        "id": clip_id,
        "caption": f"caption of {clip_id}",
        "onset_f1": f1,
        "spectral_distance": 2.0,
        "mean_offset_s": None,
        **times,
        **more,
    }


def write_scores(path, told):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(told), encoding="utf-8")
    return path
