"""Sounds and pictures of scored clips are found where the scores say, or in folders, and samples are chosen fairly."""

import pytest

from mmaudio.files.file_names import file_of
from mmaudio.report.clips_shown import Folders, all_labels, chosen_ids, find_media, sample_of, samples_of, sound_labels
from mmaudio.report.content import Report
from mmaudio.report.page import write_page
from mmaudio.report.run_results import read_scores
from tests.report.pages import row, scores, write_scores
from tests.shapes_of_ids import all_ids


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


def read(tmp_path, rows, label="a"):
    return read_scores(write_scores(tmp_path / label / "scores.json", scores(rows)), label)


def one(tmp_path, told, folders=Folders()):  # noqa: B008 - it is frozen
    file = read(tmp_path, [told])
    return sample_of([(file, told)], ["generated"], folders)


def test_files_that_the_scores_name(tmp_path):
    made, real, video = (touch(tmp_path / name) for name in ("m/x.y.flac", "r/x.y.wav", "v/x.y.mp4"))
    told = row("x.y", generated_file=str(made), reference_file=str(real), video_file=str(video))
    sample = one(tmp_path, told)
    assert [(sound.label, sound.file, sound.lack) for sound in sample.sounds] == [("real", real, ""), ("generated", made, "")]
    assert (sample.picture, sample.lack, sample.duration_s) == (video, "", 1.0)
    assert [list(sound.onsets_s) for sound in sample.sounds] == [[0.3, 0.6], [0.25]]


def test_scores_put_no_other_files_into_a_page(tmp_path):
    secret, key = tmp_path / "id_rsa", tmp_path / "in" / "key.mp4"
    for path in (secret, key, tmp_path / "in" / "key.flac"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("secret")
    (tmp_path / "in" / "link.mp4").symlink_to(secret)
    named = [str(secret), "/etc/passwd", "../id_rsa", str(key), str(tmp_path / "in" / "link.mp4"), str(key.with_suffix(".flac")), "a\0b"]
    told = [row(f"c{index}", generated_file=name, reference_file=name, video_file=name) for index, name in enumerate(named)]
    file = read(tmp_path, told)
    samples = list(samples_of([file], Folders(), 99))
    written = write_page(tmp_path / "page", Report("", samples=samples, sound_labels=all_labels([file])))
    assert list((tmp_path / "page" / "media").iterdir()) == [] and len(written.lacks) >= 2 * len(named)
    assert samples[0].lack == f"the picture is not shown: its scores name {secret}, which is no sound or video by its name"


def test_names_may_be_seen_from_where_the_scores_lie(tmp_path):
    made = touch(tmp_path / "a" / "samples" / "x.flac")
    assert one(tmp_path, row("x", generated_file="samples/x.flac")).sounds[-1].file == made


def test_files_in_folders_and_pictures_beside_sounds(tmp_path):
    made, beside, real = (touch(tmp_path / name) for name in ("m/x.y.flac", "m/x.y.mp4", "r/x.y.mkv"))
    sample = one(tmp_path, row("x.y", generated_file="gone.flac"), Folders(tmp_path / "m", tmp_path / "r"))
    assert [sound.file for sound in sample.sounds] == [real, made]
    assert sample.picture == real
    sample = one(tmp_path, row("x.y"), Folders(tmp_path / "m"))
    assert ([sound.label for sound in sample.sounds], sample.picture) == (["generated"], beside)


def test_files_of_any_id_are_found_in_folders_and_nowhere_else(tmp_path):
    outside = touch(tmp_path / "outside" / "up.flac").parent
    touch(outside / "absolute.flac")
    folders = Folders(tmp_path / "m" / "m", tmp_path / "r" / "r")
    ids = all_ids(outside)
    for name_id in ids:
        assert [sound.file for sound in one(tmp_path, row(name_id), folders).sounds] == [None, None]
    for name_id in ids:
        made, beside = (touch(file_of(folders.generated, name_id, suffix)) for suffix in (".flac", ".mp4"))
        real = touch(file_of(folders.reference, name_id, ".wav"))
        sample = one(tmp_path, row(name_id), folders)
        assert ([sound.file for sound in sample.sounds], sample.picture) == ([real, made], beside)
    assert one(tmp_path, row("x", generated_file="y" * 5000)).sounds[0].file is None


def test_what_is_gone_is_told(tmp_path):
    told = row("x", generated_file="m/x.flac", reference_file="r/x.wav", video_file="v/x.mp4")
    sample = one(tmp_path, told)
    assert [sound.lack for sound in sample.sounds] == [
        "the real sound is gone: there is no file r/x.wav",
        "the sound 'generated' is gone: there is no file m/x.flac",
    ]
    assert sample.lack == "the picture is gone: there is no file v/x.mp4"
    assert one(tmp_path, row("x")).sounds[0].lack == "its scores do not say where the sound 'generated' is"


def test_samples_are_spread_from_the_best_to_the_worst(tmp_path):
    file = read(tmp_path, [row(f"c{index}", f1=index / 10) for index in range(11)])
    assert chosen_ids([file], 3) == ["c10", "c5", "c0"]
    assert chosen_ids([file], 1) == ["c10"]
    assert chosen_ids([file], 0) == []
    assert len(chosen_ids([file], 99)) == 11


@pytest.mark.parametrize(("better", "ids"), [("lower", ["b", "a", "c"]), ("higher", ["a", "b", "c"]), ("", ["a", "b", "c"])])
def test_which_way_is_better_is_what_the_scores_say(tmp_path, better, ids):
    rows = [row(name, metrics={"DeSync": value}) for name, value in (("a", 0.9), ("b", 0.1), ("c", None))]
    entry = {"value": 0.5, "interval": None, "unit": "s", "better": better, "num": 2}
    file = read_scores(write_scores(tmp_path / "scores.json", scores(rows, metrics={"DeSync": entry})), "a")
    assert chosen_ids([file], 3) == ids


def test_clips_of_several_files_have_a_sound_of_each(tmp_path):
    touch(tmp_path / "real.flac")
    first = read(tmp_path, [row("x"), row("y"), row("only")], "one")
    second = read(tmp_path, [row("y", reference_file=str(tmp_path / "real.flac")), row("x")], "two")
    samples = {sample.id: sample for sample in samples_of([first, second], Folders(), 9)}
    assert samples.keys() == {"x", "y"}, "those that both have"
    assert [sound.label for sound in samples["y"].sounds] == ["real", "one", "two"]
    assert [sound.label for sound in samples["x"].sounds] == ["one", "two"]
    assert all_labels([first, second]) == ["real", "one", "two"]
    assert {sample.id for sample in samples_of([first, read(tmp_path, [row("z")], "three")], Folders(), 9)} == {"x", "y", "only", "z"}


def test_labels(tmp_path):
    assert sound_labels([read(tmp_path, [row("x")], "real")]) == ["generated"]
    assert sound_labels([read(tmp_path, [row("x")], name) for name in ("real", "b")]) == ["real (generated)", "b"]
    assert sound_labels([]) == []


@pytest.mark.parametrize(
    ("more", "folders", "is_said"), [({}, False, False), ({"generated_file": "x.flac"}, False, True), ({}, True, True)]
)
def test_whether_anything_says_where_sounds_are(tmp_path, more, folders, is_said):
    assert find_media([read(tmp_path, [row("x", **more)])], Folders(tmp_path if folders else None)) is is_said
