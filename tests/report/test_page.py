"""The page is one folder that needs nothing outside it, whatever is in the ids and captions."""

from html.parser import HTMLParser

import matplotlib.image
import numpy as np
import pytest

from mmaudio.report.content import Metric, Report, Sample, Track, score_metrics
from mmaudio.report.page import number_text, write_page
from mmaudio.report.spectrograms import spectrogram

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
        self.files += [value for name, value in attrs if name in ("src", "href") and not value.startswith(("#", "data:"))]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, text):
        if self.open and self.open[-1] not in ("script", "style"):
            self.texts.append(text)

    def named(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def tone(pitch_hz, duration_s=1.0):
    return (0.5 * np.sin(2 * np.pi * pitch_hz * np.arange(round(duration_s * RATE_HZ)) / RATE_HZ)).astype(np.float32)


@pytest.fixture
def media(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"a video")
    return path


def sample(media, clip_id="x", caption="a ball", numbers=None, real=True):
    made, truth = Track(media, tone(400), RATE_HZ, [0.25]), Track(media, tone(500, 1.2), RATE_HZ, [0.3, 0.6])
    return Sample(clip_id, caption, made, truth if real else None, numbers or {})


def test_a_page_holds_all_it_needs(tmp_path, media):
    log = tmp_path / "metrics.jsonl"
    log.write_text('{"steps_done": 1, "train/loss": 2, "train/lr": 0.1}\n{"steps_done": 2, "train/loss": 1, "valid/loss": 1.5}\n')
    metrics = [Metric("Onset F1", 0.62, (0.5, 0.7), note="of 50"), Metric("DeSync", None, note="no weights here")]
    numbers = [{"F1": 0.5, "offset": None}, {"F1": 1.0, "offset": -0.01}]
    samples = [sample(media, f"id{index}", numbers=entry) for index, entry in enumerate(numbers)]
    index = write_page(tmp_path / "page", Report("A run", "of an hour", {"F1": "0.62"}, metrics, samples, log))
    page = Page(index)
    assert index == tmp_path / "page" / "index.html"
    assert page.files
    assert all((index.parent / file).is_file() for file in page.files)
    assert {file.name for file in (index.parent / "media").iterdir()} == {
        f"{place:03d}_{which}.{suffix}" for place in (0, 1) for which in ("generated", "real") for suffix in ("mp4", "png")
    }
    assert (index.parent / "media" / "000_real.mp4").read_bytes() == b"a video"
    assert len(page.named("video")) == 4
    assert len(page.named("svg")) == 2
    assert "http" not in index.read_text(encoding="utf-8").replace("http-equiv", "")
    assert {"A run", "of an hour", "0.62", "0.5 to 0.7", "no weights here", "–"} <= set(page.texts)
    assert [option.get("value") for option in page.named("option")] == ["", "F1", "offset"]
    assert [entry["data-numbers"] for entry in page.named("li") if "data-numbers" in entry] == [
        '{"F1": 0.5}',
        '{"F1": 1.0, "offset": -0.01}',
    ]
    assert all(image["alt"] for image in page.named("img"))


def test_no_text_becomes_markup(tmp_path, media):
    nasty = "</p><script>alert('&')</script> $title \"quoted\" 🙂\ttab\nline"
    metrics = [Metric(nasty, 1.0, unit=nasty, note=nasty)]
    report = Report(nasty, nasty, {nasty: nasty}, metrics, [sample(media, nasty, nasty, {nasty: 1.0})])
    page = Page(write_page(tmp_path / "page", report))
    assert len(page.named("script")) == 1
    assert page.texts.count(nasty) >= 8
    assert [option["value"] for option in page.named("option")][1] == nasty


def test_a_page_of_little_is_a_page(tmp_path, media):
    page = Page(write_page(tmp_path / "page", Report("Nothing yet", metrics_log=tmp_path / "none.jsonl")))
    assert page.named("section") == []
    sound = tmp_path / "sound.FLAC"
    sound.write_bytes(b"a sound")
    alone = Sample("x", "", Track(sound, np.zeros(RATE_HZ, np.float32), RATE_HZ))
    page = Page(write_page(tmp_path / "page", Report("One", samples=[alone])))
    assert [audio["src"] for audio in page.named("audio")] == ["media/000_generated.flac"]
    assert page.named("video") == []


def test_a_page_that_fails_leaves_the_old_one(tmp_path, media):
    index = write_page(tmp_path / "page", Report("First", samples=[sample(media)]))
    before = index.read_bytes()
    with pytest.raises(FileNotFoundError):
        write_page(tmp_path / "page", Report("Second", samples=[sample(tmp_path / "gone.mp4")]))
    assert index.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "page"]
    write_page(tmp_path / "page", Report("Third", samples=[sample(index.parent / "media" / "000_real.mp4", real=False)]))
    assert (index.parent / "media" / "000_generated.mp4").read_bytes() == b"a video"


def test_pictures_share_size_time_and_colour(tmp_path, media):
    folder = write_page(tmp_path / "page", Report("Two", samples=[sample(media)])).parent / "media"
    made, truth = (matplotlib.image.imread(folder / f"000_{which}.png") for which in ("generated", "real"))
    assert made.shape == truth.shape
    brightest = [picture[..., :3].sum(axis=-1)[20:-40, 80:].max() for picture in (made, truth)]
    assert brightest[0] == pytest.approx(brightest[1], abs=0.3)


@pytest.mark.parametrize("pitch_hz", [120, 700, 4000])
def test_a_tone_is_drawn_at_its_pitch(pitch_hz):
    picture = spectrogram(tone(pitch_hz), RATE_HZ)
    row = picture.level_db.mean(axis=1).argmax()
    assert np.geomspace(picture.low_hz, picture.high_hz, 160)[row] == pytest.approx(pitch_hz, rel=0.06)
    assert picture.level_db.max() == pytest.approx(20 * np.log10(0.5), abs=1.5)
    assert picture.duration_s == 1.0


def test_a_short_or_silent_sound_has_a_picture(tmp_path, media):
    for wave in (np.zeros(0, np.float32), np.zeros(10, np.float32), np.zeros(RATE_HZ, np.float32)):
        track = Track(media, wave, RATE_HZ)
        write_page(tmp_path / "page", Report("Quiet", samples=[Sample("x", "", track, Track(media, tone(300), RATE_HZ))]))
        assert len(list((tmp_path / "page").rglob("*.png"))) == 2


def test_numbers_read_well():
    texts = [number_text(value) for value in (0.61234, 1.0, 15234.0, -0.0033333, None, float("nan"), 1234.56)]
    assert texts == ["0.612", "1", "15,234", "-0.00333", "–", "–", "1,235"]


def test_scores_become_rows():
    onsets = {"generated": 0.6, "shuffled": 0.25, "interval": [0.3, 0.4], "mean_offset_s": 0.01, "tolerance_s": 0.1}
    scores = {
        "counts": {"reference": 60, "predicted": 55, "paired": 50},
        "onset_f1": onsets,
        "spectral_distance": {"mean": 3.0},
        "mel_frechet": {"value": None, "reason": "too little sound"},
    }
    rows = {row.name: row for row in score_metrics(scores)}
    assert rows["Onset F1, difference"].value == pytest.approx(0.35)
    assert rows["Onset F1, difference"].interval == (0.3, 0.4)
    assert rows["Mel Fréchet distance"].note == "too little sound"
    lonely = {**onsets, "shuffled": None, "interval": None, "reason": "only one clip"}
    rows = {row.name: row for row in score_metrics({**scores, "onset_f1": lonely})}
    assert rows["Onset F1, difference"].value is None
    assert rows["Onset F1, shuffled"].note == "only one clip"
