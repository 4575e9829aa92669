"""Folders of sounds whose scores are known: ids pair exactly, chance is lower than truth, and nothing is NaN."""

import json

import numpy as np
import pytest
import soundfile

from mmaudio.base.errors import UserError
from mmaudio.media.mp4 import write_video
from mmaudio.media.synthetic import draw_bounces, render_frames, render_sound
from mmaudio.metrics.sound_scores import score_folder, shifts

RATE_HZ = 16_000
IDS = ["00008004", "1e5", "None", "a.b.c", "Y---g-f_I2yQ_000001", "000000014_zxpo56cpUBU_000007-0", "🙂", 'with "quotes"']


def sound(index):
    return render_sound(draw_bounces(3, "scored", index, 2.5), RATE_HZ)


def write(folder, sounds, suffix=".flac", rate_hz=RATE_HZ):
    folder.mkdir(exist_ok=True)
    for name, wave in sounds.items():
        soundfile.write(folder / f"{name}{suffix}", wave, rate_hz)
    return {name: folder / f"{name}{suffix}" for name in sounds}


@pytest.fixture
def real(tmp_path):
    return write(tmp_path / "real", {name: sound(index) for index, name in enumerate(IDS)}, ".wav")


def test_perfect_sounds_score_one_and_shuffled_ones_less(tmp_path, real):
    write(tmp_path / "made", {name: 0.5 * sound(index) for index, name in enumerate(IDS)})
    scores = score_folder(tmp_path / "made", real, duration_s=2.5, captions={"1e5": "a\tball"})
    onsets = scores["onset_f1"]
    assert onsets["generated"] == onsets["precision"] == onsets["recall"] == 1.0
    assert onsets["shuffled"] < 0.6
    low, high = onsets["interval"]
    assert 0 < low <= onsets["generated"] - onsets["shuffled"] <= high
    assert abs(onsets["mean_offset_s"]) < 0.006
    assert scores["spectral_distance"]["mean"] < 0.5
    assert scores["mel_frechet"]["value"] > 1  # the level is another
    assert [row["id"] for row in scores["clips"]] == sorted(IDS)
    assert scores["clips"][sorted(IDS).index("1e5")]["caption"] == "a\tball"
    assert all(len(row["real_onsets_s"]) > 1 for row in scores["clips"])
    counts = {"reference": 8, "predicted": 8, "paired": 8, "failed": 0, "missing_ids": [], "unexpected_ids": [], "ends_early_ids": []}
    assert scores["counts"] == counts
    json.dumps(scores, allow_nan=False)
    assert scores == score_folder(tmp_path / "made", real, duration_s=2.5, captions={"1e5": "a\tball"})


def test_exchanged_sounds_score_as_chance(tmp_path, real):
    moved = [*IDS[1:], IDS[0]]
    write(tmp_path / "made", {name: sound(index) for index, name in enumerate(moved)})
    onsets = score_folder(tmp_path / "made", real, duration_s=2.5)["onset_f1"]
    assert onsets["generated"] < 0.6
    assert onsets["shuffled"] > onsets["generated"] - 0.2


def test_ids_pair_exactly_and_the_rest_is_counted(tmp_path, real):
    write(tmp_path / "made", {"a.b": sound(0), "1e5": sound(1), "1E5": sound(2), "8004": sound(3), "None": sound(4)})
    (tmp_path / "made" / "notes.txt").write_text("no sound")
    counts = score_folder(tmp_path / "made", real, duration_s=2.5)["counts"]
    assert (counts["reference"], counts["predicted"], counts["paired"]) == (8, 5, 2)
    assert counts["unexpected_ids"] == ["1E5", "8004", "a.b"]
    assert counts["missing_ids"] == sorted(set(IDS) - {"1e5", "None"})


def test_only_the_first_seconds_count_and_rates_may_differ(tmp_path):
    first, tail = sound(0), 0.4 * np.random.default_rng(0).standard_normal(3 * RATE_HZ).astype(np.float32)
    references = write(tmp_path / "real", {"x": np.concatenate((first, tail)), "y": sound(1)})
    made = {"x": render_sound(draw_bounces(3, "scored", 0, 2.5), 44_100), "y": render_sound(draw_bounces(3, "scored", 1, 2.5), 44_100)}
    write(tmp_path / "made", made, ".wav", 44_100)
    scores = score_folder(tmp_path / "made", references, duration_s=2.5)
    assert scores["onset_f1"]["generated"] == 1.0
    assert scores["spectral_distance"]["mean"] < 1


def test_references_may_be_videos(tmp_path):
    bounces = {name: draw_bounces(3, "scored", index, 2.5) for index, name in enumerate(("a.b", "c"))}
    references = {name: tmp_path / f"{name}.mp4" for name in bounces}
    for name, path in references.items():
        write_video(path, render_frames(bounces[name]), 25, render_sound(bounces[name], RATE_HZ), RATE_HZ)
    write(tmp_path / "made", {name: render_sound(one, RATE_HZ) for name, one in bounces.items()})
    scores = score_folder(tmp_path / "made", references, duration_s=2.5, tolerance_s=0.02)
    assert scores["onset_f1"]["generated"] == 1.0
    assert abs(scores["onset_f1"]["mean_offset_s"]) < 0.003  # the sound encoder's delay is not heard
    assert scores["spectral_distance"]["mean"] < 2


def test_a_sound_that_stops_early_misses_the_rest(tmp_path, real):
    write(tmp_path / "made", {name: sound(index)[: round(1.4 * RATE_HZ)] for index, name in enumerate(IDS)})
    scores = score_folder(tmp_path / "made", real, duration_s=2.5)
    assert scores["onset_f1"]["recall"] < 0.7
    assert scores["counts"]["ends_early_ids"] == sorted(IDS)


def test_sounds_too_short_to_be_compared_are_listed(tmp_path, real):
    lengths = {"1e5": 300, "None": RATE_HZ, "a.b.c": 2 * RATE_HZ}
    write(tmp_path / "made", {name: sound(place)[:length] for place, (name, length) in enumerate(lengths.items())})
    scores = score_folder(tmp_path / "made", real, duration_s=2.5)
    assert [entry["id"] for entry in scores["failed"]] == ["1e5", "None"]
    assert "too short to be compared: 0.02 s of sound, want at least 0.2 s" in scores["failed"][0]["reason"]
    assert "1.00 s of sound, and the real one has 2.50 s" in scores["failed"][1]["reason"]
    assert [row["id"] for row in scores["clips"]] == ["a.b.c"]


def test_one_clip_has_no_chance_level_and_says_why(tmp_path, real):
    write(tmp_path / "made", {"1e5": sound(1)})
    scores = score_folder(tmp_path / "made", real, duration_s=2.5)
    assert scores["onset_f1"]["generated"] == 1.0
    assert scores["onset_f1"]["shuffled"] is scores["onset_f1"]["interval"] is None
    assert "only one clip" in scores["onset_f1"]["reason"]


def test_pairs_that_cannot_be_read_are_listed(tmp_path, real):
    write(tmp_path / "made", {"1e5": sound(1), "a.b.c": sound(3), "🙂": sound(6)})
    (tmp_path / "made" / "None.wav").write_bytes(b"no sound, whatever the name says")
    nan = np.full(RATE_HZ, np.nan, dtype=np.float32)
    soundfile.write(tmp_path / "made" / "00008004.wav", nan, RATE_HZ, subtype="FLOAT")
    real["🙂"].unlink()
    scores = score_folder(tmp_path / "made", real, duration_s=2.5)
    assert (scores["counts"]["paired"], scores["counts"]["failed"]) == (2, 3)
    assert [entry["id"] for entry in scores["failed"]] == sorted(["None", "00008004", "🙂"])
    assert "finite" in scores["failed"][0]["reason"]


def test_silent_sounds_have_scores(tmp_path, real):
    write(tmp_path / "made", dict.fromkeys(IDS, np.zeros(5 * RATE_HZ // 2, dtype=np.float32)))
    scores = score_folder(tmp_path / "made", real, duration_s=2.5)
    assert scores["onset_f1"]["generated"] == 0
    assert scores["onset_f1"]["mean_offset_s"] is None
    json.dumps(scores, allow_nan=False)


def test_short_references_are_no_references(tmp_path):
    references = write(tmp_path / "real", {"x": np.zeros(40, dtype=np.float32)})
    write(tmp_path / "made", {"x": np.zeros(40, dtype=np.float32)})
    scores = score_folder(tmp_path / "made", references, duration_s=2.5)
    assert scores["mel_frechet"]["value"] is None
    assert scores["counts"]["failed"] == 1


def test_what_cannot_be_scored_is_one_sentence(tmp_path, real):
    with pytest.raises(UserError, match="no folder at"):
        score_folder(tmp_path / "none", real, duration_s=2.5)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no \.flac or \.wav"):
        score_folder(tmp_path / "empty", real, duration_s=2.5)
    write(tmp_path / "other", {"elsewhere": sound(0)})
    with pytest.raises(UserError, match=r"no id of the 1 sounds .*'elsewhere'.* among the 8 reference ids"):
        score_folder(tmp_path / "other", real, duration_s=2.5)
    write(tmp_path / "twice", {"1e5": sound(0)}, ".flac")
    write(tmp_path / "twice", {"1e5": sound(0)}, ".wav")
    with pytest.raises(UserError, match=r"both 1e5\.flac and 1e5\.wav"):
        score_folder(tmp_path / "twice", real, duration_s=2.5)
    write(tmp_path / "gone", {"1e5": sound(0)})
    real["1e5"].unlink()
    with pytest.raises(UserError, match=r"has a sound of 1 of the 8 reference ids \(7 are missing"):
        score_folder(tmp_path / "gone", real, duration_s=2.5, min_coverage=0.5)


def test_where_no_pair_can_be_scored_every_number_is_null_with_its_reason(tmp_path, real):
    (tmp_path / "made").mkdir()
    for name in IDS:
        (tmp_path / "made" / f"{name}.flac").write_bytes(b"no sound")
    scores = score_folder(tmp_path / "made", real, duration_s=2.5)
    assert (scores["counts"]["paired"], scores["counts"]["failed"]) == (0, len(IDS))
    assert all(told["value"] is told["interval"] is None and told["reason"] for told in scores["metrics"].values())
    json.dumps(scores, allow_nan=False)


def test_metrics_say_their_interval_and_which_way_is_better(tmp_path, real):
    write(tmp_path / "made", {name: sound(index) for index, name in enumerate(IDS)})
    metrics = score_folder(tmp_path / "made", real, duration_s=2.5)["metrics"]
    assert metrics["onset_f1"] == {"value": 1.0, "interval": [1.0, 1.0], "unit": "", "better": "higher", "num": len(IDS)}
    low, high = metrics["onset_f1_shuffled"]["interval"]
    assert low < metrics["onset_f1_shuffled"]["value"] < high < 1
    assert [name for name, told in metrics.items() if told["better"] == "higher"] == ["onset_f1"]


def test_shifts_are_all_or_evenly_spread():
    assert shifts(2) == [1]
    assert shifts(6) == [1, 2, 3, 4, 5]
    many = shifts(1000)
    assert len(set(many)) == 64
    assert (min(many), max(many)) == (1, 999)
