"""The page is one folder that needs nothing outside it, whatever is in the ids and captions."""

import json

import pytest
import soundfile

from mmaudio.report.content import Clips, PageClip, PageSound, Report, RunRecord, ScoreColumn, Value
from mmaudio.report.page import write_page
from tests.report.pages import Page, write_clip, write_tone


@pytest.fixture
def sounds(tmp_path):
    return [write_tone(tmp_path / "in" / name, pitch) for name, pitch in (("made.flac", 400), ("real.flac", 500))]


def sample(sounds, clip_id="x", caption="a ball", numbers=None):
    made = PageSound("generated", sounds[0], [0.25], numbers or {}, caption)
    return PageClip(clip_id, [PageSound("real", sounds[1], [0.3, 0.6]), made] if sounds[1] else [made], duration_s=1.0)


def page_of(tmp_path, *samples, **more):
    return write_page(tmp_path / "page", Report("A run", samples=samples, sound_labels=("real", "generated"), **more))


def test_a_page_holds_all_it_needs(tmp_path, sounds):
    log = tmp_path / "metrics.jsonl"
    log.write_text('{"steps_done": 1, "train/loss": 2, "train/lr": 0.1}\n{"steps_done": 2, "train/loss": 1, "valid/loss": 1.5}\n')
    columns = [ScoreColumn("scores", {"onset_f1": Value(0.62, (0.5, 0.7)), "DeSync": Value(None, reason="no weights here")}, Clips(50, 60))]
    video = write_clip(tmp_path / "in" / "clip.mp4").rename(tmp_path / "in" / "clip.MP4")
    numbers = [{"onset_f1": 0.5, "DeSync": None}, {"onset_f1": 1.0, "DeSync": -0.01}]
    samples = [sample(sounds, f"id{index}", numbers=entry) for index, entry in enumerate(numbers)]
    samples[0] = PageClip("id0", samples[0].sounds, video, 1.0)
    written = page_of(tmp_path, *samples, columns=columns, runs=[RunRecord("A run", log)])
    page = Page(written.index)
    assert (written.index, written.num_samples, written.lacks) == (tmp_path / "page" / "index.html", 2, [])
    assert all((written.index.parent / file).is_file() for file in page.files)
    names = {file.name for file in (written.index.parent / "media").iterdir()}
    assert names == {
        "000_picture.mp4",
        *(f"{place:03d}_{sound}.{suffix}" for place in (0, 1) for sound in (0, 1) for suffix in ("wav", "png")),
    }
    assert (written.index.parent / "media" / "000_picture.mp4").read_bytes() == video.read_bytes()
    assert soundfile.info(written.index.parent / "media" / "000_1.wav").duration == 1.0
    assert written.num_bytes == sum(file.stat().st_size for file in written.index.parent.rglob("*") if file.is_file())
    assert "http" not in written.index.read_text(encoding="utf-8")
    assert {"A run", "0.620", "0.500 to 0.700", "no weights here", "50 of 60"} <= set(page.texts)
    assert [option.get("value") for option in page.named("option")] == ["", "2:onset_f1", "2:DeSync"]
    assert [json.loads(card["data-numbers"]) for card in page.named("li", "card")] == [
        {"2:onset_f1": 0.5},
        {"2:onset_f1": 1.0, "2:DeSync": -0.01},
    ]
    assert all(image["alt"] and image["loading"] == "lazy" for image in page.named("img"))


def test_sounds_are_switched_by_buttons_with_keys_and_nothing_is_loaded_at_first(tmp_path, sounds):
    video = write_clip(tmp_path / "in" / "clip.mp4")
    page = Page(page_of(tmp_path, PageClip("x", sample(sounds).sounds, video, 1.0)).index)
    assert [(button["data-label"], button["data-key"]) for button in page.named("button", "hear")] == [("real", "1"), ("generated", "2")]
    assert [track["data-src"] for track in page.named("figure", "track")] == ["media/000_0.wav", "media/000_1.wav"]
    (screen,) = page.named("video")
    assert "src" not in screen and screen["preload"] == "none" and "muted" in screen
    assert page.named("audio") == []
    assert page.named("button", "play")[0]["aria-label"] == "Play x"
    assert page.named("input", "seek")[0]["aria-label"]


def test_a_file_is_copied_once_for_its_sound_and_its_picture(tmp_path):
    import numpy as np

    from mmaudio.media.mp4 import write_video
    from tests.report.pages import RATE_HZ, tone

    clip = tmp_path / "clip.mp4"
    write_video(clip, np.zeros((4, 16, 16, 3), np.uint8), 8, tone(300, 0.5), RATE_HZ)
    written = page_of(tmp_path, PageClip("x", [PageSound("real", clip)], clip))
    assert [file.name for file in sorted((tmp_path / "page" / "media").iterdir())] == ["000_0.mp4", "000_0.png"]
    assert Page(written.index).named("video")[0]["data-src"] == "media/000_0.mp4"


def test_what_no_browser_shows_is_told_and_its_sound_is_kept(tmp_path, sounds):
    clip = tmp_path / "clip.mkv"
    clip.write_bytes(sounds[0].read_bytes())  # what it holds is looked at, not its name
    written = page_of(tmp_path, PageClip("x", [PageSound("real", clip)], clip))
    assert written.lacks == ["the picture is .mkv, which browsers do not show; only the sound is here"]
    page = Page(written.index)
    assert page.named("video") == [] and written.lacks[0] in page.texts
    assert page.named("figure", "track")[0]["data-src"] == "media/000_0.wav"


def test_what_is_gone_is_told_on_its_card(tmp_path, sounds):
    broken = tmp_path / "broken.flac"
    broken.write_bytes(b"no sound at all, none")
    gone = PageSound("real", None, lack="the real sound is gone: there is no file a.flac")
    written = page_of(tmp_path, PageClip("x", [gone, PageSound("generated", broken)]), sample(sounds, "y"))
    assert len(written.lacks) == 2 and written.lacks[1].startswith("the sound 'generated' cannot be read: ")
    page = Page(written.index)
    assert set(written.lacks) <= set(page.texts)
    assert [("disabled" in button) for button in page.named("button", "hear")] == [False, False]
    assert [button["aria-label"] for button in page.named("button", "play")] == ["Play y"], "there is nothing to play in the other"


def test_one_sound_of_two_can_be_heard(tmp_path, sounds):
    written = page_of(tmp_path, PageClip("x", [PageSound("real", None, lack="gone"), PageSound("generated", sounds[0])]))
    assert [("disabled" in button) for button in Page(written.index).named("button", "hear")] == [True, False]


def test_captions_are_told_apart_where_sounds_have_their_own(tmp_path, sounds):
    both = [PageSound("right", sounds[0], caption="a ball"), PageSound("wrong", sounds[1], caption="a <bell>")]
    page = Page(page_of(tmp_path, PageClip("x", both)).index)
    captions = "".join(page.texts)
    assert "right: a ball" in captions and "wrong: a <bell>" in captions


def test_no_text_becomes_markup(tmp_path, sounds):
    nasty = "</p><script>alert('&')</script> $title \"quoted\" 🙂\ttab\nline"
    columns = [
        ScoreColumn(nasty, {nasty: Value(None, unit=nasty, reason=nasty)}, Clips(1, 1), {nasty: nasty}),
        ScoreColumn("b", {}, Clips(1, 1)),
    ]
    made = PageSound(nasty, sounds[0], numbers={nasty: 1.0}, caption=nasty, lack=nasty)
    report = Report(nasty, nasty, columns=columns, samples=[PageClip(nasty, [made])], sound_labels=[nasty], notes=[nasty])
    page = Page(write_page(tmp_path / "page", report).index)
    assert len(page.named("script")) == 1
    assert page.texts.count(nasty) >= 8
    assert page.named("option")[1]["value"] == f"1:{nasty}"


def test_a_page_of_little_is_a_page(tmp_path):
    page = Page(page_of(tmp_path, runs=[RunRecord("A run", tmp_path / "none.jsonl")]).index)
    assert page.named("section") == []


def test_a_page_that_fails_leaves_the_old_one(tmp_path, sounds):
    index = page_of(tmp_path, sample(sounds)).index
    before = index.read_bytes()

    def torn():
        yield sample(sounds)
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        write_page(tmp_path / "page", Report("Second", samples=torn()))
    assert index.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "page"]
    copied = index.parent / "media" / "000_1.wav"
    page_of(tmp_path, sample([copied, None]))
    assert [file.name for file in (index.parent / "media").iterdir() if file.suffix == ".wav"] == ["000_0.wav"]
