"""Example media as files: the right names and tables, nothing of the user's touched, and made again only if needed."""

import json
from dataclasses import replace

import av
import pytest
import soundfile

from mmaudio.base.errors import UserError
from mmaudio.files.tables import read_table
from mmaudio.media import synthetic as example_files
from mmaudio.media.synthetic import (
    FPS,
    GUIDE_AUDIO_HZ,
    GUIDE_AUDIOS,
    GUIDE_VIDEOS,
    MATERIALS,
    LearningSet,
    make_guide_example,
    make_learning_set,
)

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
    with pytest.raises(UserError, match=r"was not made by this program.*name another folder, or move it aside: mv "):
        make_learning_set(tmp_path, SMALL)
    assert files_under(tmp_path) == {"thesis.txt": b"years of work"}


EMPTY = replace(SMALL, num_train=0, num_heldout=0, num_audio=0)
RECORD_OF_BEFORE = json.dumps({"made_with": {**replace(EMPTY, seed=7).__dict__, "version": 1}})  # without a mark


@pytest.mark.parametrize(
    "files",
    [
        {"train/a.mp4": "mine", "train.tsv": "id\tlabel\n", "audio.tsv": "mine"},
        {"train.tsv": "mine", "learning_set.json": RECORD_OF_BEFORE},
        {"learning_set.json": "no json"},
        {"learning_set.json": '{"mark": {"program": "mmaudio", "format": 1, "kind": "page", "of": "x", "files": {}}}'},
    ],
)
def test_a_data_set_called_as_a_learning_set_is_left_alone(tmp_path, files):
    folder = tmp_path / "birds"
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    before = files_under(tmp_path)
    with pytest.raises(UserError, match=r"was not made by this program.*move it aside: mv .*/birds .*/birds\.aside"):
        make_learning_set(folder, EMPTY)
    assert files_under(tmp_path) == before


@pytest.mark.parametrize("change", ["a file more", "a table of mine", "a link", "an empty folder"])
def test_a_learning_set_that_somebody_works_with_is_left_alone(tmp_path, change):
    folder, elsewhere = tmp_path / "set", tmp_path / "mine.mp4"
    make_learning_set(folder, EMPTY)
    elsewhere.write_bytes(b"mine")
    {
        "a file more": lambda: (folder / "train.tsv.tsv").write_text("mine"),
        "a table of mine": lambda: (folder / "train.tsv").write_text("id\tlabel\nx\tmine\n"),
        "a link": lambda: (folder / "train").symlink_to(tmp_path),
        "an empty folder": lambda: (folder / "audio").mkdir(),
    }[change]()
    before = files_under(tmp_path)
    with pytest.raises(UserError, match=r"set holds '.*', which this program did not make, or which changed since; name another"):
        make_learning_set(folder, replace(EMPTY, seed=1))
    assert files_under(tmp_path) == before and not list(tmp_path.glob(".*"))


def test_a_learning_set_behind_a_link_is_made_there_twice(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "set").symlink_to(tmp_path / "disk")
    for seed in (1, 2):
        make_learning_set(tmp_path / "set", replace(EMPTY, seed=seed))
        assert (tmp_path / "set").is_symlink()
        assert json.loads((tmp_path / "disk" / "learning_set.json").read_text())["made_with"]["seed"] == seed


def test_a_link_to_nowhere_is_not_written_through(tmp_path, short_guide):
    folder = tmp_path / "training"
    links = [
        folder / "example_videos" / f"{GUIDE_VIDEOS[0]}.mp4",
        folder / "example_audios" / "00008004.flac",
        folder / "example_video.tsv",
    ]
    for link in links:
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(tmp_path / f"nowhere-{link.name}")
    make_guide_example(folder)
    assert all(link.is_symlink() and not link.exists() for link in links) and (folder / "example_audio.tsv").is_file()


def test_an_empty_folder_is_filled(tmp_path):
    make_learning_set(tmp_path / "set", replace(SMALL, num_train=0, num_heldout=0, num_audio=0))
    (tmp_path / "empty").mkdir()
    make_learning_set(tmp_path / "empty", replace(SMALL, num_train=0, num_heldout=0, num_audio=0))
    assert files_under(tmp_path / "empty") == files_under(tmp_path / "set")
