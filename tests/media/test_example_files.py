"""Example media as files: the right names and tables, nothing of the user's touched, and made again only if needed."""

import json
from dataclasses import replace

import av
import pytest
import soundfile

from mmaudio.base.errors import UserError
from mmaudio.base.tables import read_table
from mmaudio.media import example_files
from mmaudio.media.example import FPS, MATERIALS
from mmaudio.media.example_files import GUIDE_AUDIO_HZ, GUIDE_AUDIOS, GUIDE_VIDEOS, LearningSet, make_guide_example, make_learning_set

SMALL = LearningSet(num_train=2, num_heldout=3, num_audio=4, clip_s=0.64, audio_s=0.5)


@pytest.fixture
def short_guide(monkeypatch):
    """Media of a fraction of a second, for speed."""
    monkeypatch.setattr(example_files, "GUIDE_VIDEO_S", 0.64)
    monkeypatch.setattr(example_files, "GUIDE_AUDIO_S", 0.5)


def files_under(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_guide_needs_these_lengths():
    assert example_files.GUIDE_VIDEO_S >= 10
    assert example_files.GUIDE_AUDIO_S == 29.0
    assert GUIDE_VIDEOS == ("0B4dYTMsgHA_000130", "F8Zt3mYlOqU_000094")
    assert GUIDE_AUDIOS == ("00008004", "00008009")


def test_guide_example(tmp_path, short_guide):
    make_guide_example(tmp_path)
    assert sorted(files_under(tmp_path)) == [
        "example_audio.tsv",
        "example_audios/00008004.flac",
        "example_audios/00008009.flac",
        "example_video.tsv",
        "example_videos/0B4dYTMsgHA_000130.mp4",
        "example_videos/F8Zt3mYlOqU_000094.mp4",
    ]
    videos, audios = read_table(tmp_path / "example_video.tsv"), read_table(tmp_path / "example_audio.tsv")
    assert videos.columns == ("id", "label") and audios.columns == ("id", "caption")
    assert videos.column("id") == list(GUIDE_VIDEOS) and audios.column("id") == ["00008004", "00008009"]
    assert all(text.endswith(" ball bouncing") for text in videos.column("label") + audios.column("caption"))
    sound = soundfile.info(tmp_path / "example_audios" / "00008004.flac")
    assert (sound.samplerate, sound.channels, sound.frames) == (GUIDE_AUDIO_HZ, 1, GUIDE_AUDIO_HZ // 2)
    with av.open(tmp_path / "example_videos" / "F8Zt3mYlOqU_000094.mp4") as container:
        assert container.streams.video[0].average_rate == FPS and container.streams.video[0].frames == 16
        assert container.streams.audio[0].codec_context.name == "aac"


def test_nothing_that_is_there_is_touched(tmp_path, short_guide):
    make_guide_example(tmp_path)
    made = files_under(tmp_path)
    mine = tmp_path / "example_videos" / f"{GUIDE_VIDEOS[0]}.mp4"
    mine.write_bytes(b"mine")
    (tmp_path / "example_audio.tsv").write_text("id\tcaption\nx\ty\n")
    (tmp_path / "example_audios" / "00008009.flac").unlink()
    make_guide_example(tmp_path)
    changed = {"example_audio.tsv": b"id\tcaption\nx\ty\n", str(mine.relative_to(tmp_path)): b"mine"}
    assert files_under(tmp_path) == made | changed  # and what was missing is made again, the same to the byte


@pytest.fixture(scope="module")
def learning_set(tmp_path_factory):
    folder = tmp_path_factory.mktemp("learning") / "set"
    make_learning_set(folder, SMALL)
    return folder


def test_learning_set(learning_set):
    assert sorted(files_under(learning_set)) == [
        "audio.tsv",
        *(f"audio/audio_000{index}.{'wav' if index == 3 else 'flac'}" for index in range(4)),
        "heldout.tsv",
        *(f"heldout/heldout_000{index}.mp4" for index in range(3)),
        "heldout_wrong.tsv",
        "learning_set.json",
        "train.tsv",
        *(f"train/train_000{index}.mp4" for index in range(2)),
    ]
    assert read_table(learning_set / "train.tsv").columns == ("id", "label")
    assert read_table(learning_set / "audio.tsv").columns == ("id", "caption")
    record = json.loads((learning_set / "learning_set.json").read_text())
    for split in ("train", "heldout"):
        table = read_table(learning_set / f"{split}.tsv")
        told = record[split]
        assert dict(table.rows) == {name: clip["caption"] for name, clip in told.items()}
        assert all(0 <= impact_s < SMALL.clip_s for clip in told.values() for impact_s in clip["impacts_s"])
    assert record["made_with"] == {**SMALL.__dict__, "version": 1}


def test_wrong_captions_are_of_another_material(learning_set):
    right, wrong = (dict(read_table(learning_set / f"{name}.tsv").rows) for name in ("heldout", "heldout_wrong"))
    assert list(right) == list(wrong)
    for name in right:
        assert right[name].split()[3] != wrong[name].split()[3]
        assert wrong[name].split()[3] in MATERIALS


def test_learning_set_is_made_again_only_if_another_is_wanted(tmp_path):
    folder = tmp_path / "set"
    tiny = replace(SMALL, num_train=1, num_heldout=1, num_audio=1)
    make_learning_set(folder, tiny)
    made, inode = files_under(folder), folder.stat().st_ino
    make_learning_set(folder, tiny)
    assert folder.stat().st_ino == inode and files_under(folder) == made
    make_learning_set(folder, replace(tiny, num_train=0, seed=1))
    again = files_under(folder)
    assert "train/train_0000.mp4" not in again
    assert again["heldout/heldout_0000.mp4"] != made["heldout/heldout_0000.mp4"]
    assert not list(tmp_path.glob(".*"))  # no half set is left beside it


def test_a_folder_of_something_else_is_not_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match=r"holds other files.*name another folder"):
        make_learning_set(tmp_path, SMALL)
    assert files_under(tmp_path) == {"thesis.txt": b"years of work"}


def test_an_empty_folder_is_filled(tmp_path):
    make_learning_set(tmp_path / "set", replace(SMALL, num_train=0, num_heldout=0, num_audio=0))
    (tmp_path / "empty").mkdir()
    make_learning_set(tmp_path / "empty", replace(SMALL, num_train=0, num_heldout=0, num_audio=0))
    assert files_under(tmp_path / "empty") == files_under(tmp_path / "set")
