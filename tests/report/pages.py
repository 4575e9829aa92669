"""What tests read a page with, and the sounds and scores they make pages of."""

import json
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from mmaudio.media.audio import write_flac
from mmaudio.media.mp4 import write_video
from mmaudio.metrics.sound_scores import score_folder

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


def write_clip(path):
    """A second of a small grey picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, (np.full((16, 16, 3), 100, np.uint8) for _ in range(4)), 4)
    return path


def bursts(*onsets_s):
    """A second of silence but for short decaying noises."""
    wave, noise = np.zeros(RATE_HZ, np.float32), np.random.default_rng(0).normal(0, 0.2, 1600)
    for onset_s in onsets_s:
        start = round(onset_s * RATE_HZ)
        wave[start : start + 1600] += (noise * np.exp(-np.arange(1600) / 300)).astype(np.float32)
    return wave


@cache
def scored():
    """What scoring says of two made-up clips, each with an onset that agrees and one that does not."""
    with TemporaryDirectory() as made, TemporaryDirectory() as real:
        for name, onsets_s in (("a", (0.2, 0.6)), ("b", (0.3, 0.7))):
            write_flac(Path(made, f"{name}.flac"), bursts(*onsets_s), RATE_HZ)
            write_flac(Path(real, f"{name}.flac"), bursts(onsets_s[0] + 0.02, 0.9), RATE_HZ)
        return score_folder(Path(made), {name: Path(real, f"{name}.flac") for name in "ab"}, duration_s=1.0)


def scores(rows, *, duration_s=1.0, **changes):
    """A file of scores as scoring writes it, of these rows."""
    told = scored()
    return {**told, "clips": rows, "protocol": {**told["protocol"], "duration_s": duration_s}, **changes}


def row(clip_id, f1=0.5, *, metrics=None, **more):
    """A row as scoring writes it; where its sounds are is not told."""
    told = {**scored()["clips"][0], "generated_file": None, "reference_file": None}
    times = {"generated_onsets_s": [0.25], "real_onsets_s": [0.3, 0.6]}
    numbers = {**told["metrics"], "onset_f1": f1} if metrics is None else metrics
    return {**told, "id": clip_id, "caption": f"caption of {clip_id}", **times, "metrics": numbers, **more}


def write_scores(path, told):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(told), encoding="utf-8")
    return path
