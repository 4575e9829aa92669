"""`mmaudio evaluate`: a folder of sounds, by any metric; two results side by side."""

import json
import time

import numpy as np
import pytest
import soundfile
import torch

from mmaudio.files.atomic import write_json
from mmaudio.files.locks import hold_target
from mmaudio.media.synthetic import draw_bounces, render_sound
from mmaudio.metrics.feature_cache import write_features
from tests.metrics.golden_caches import METRICS, NAMES, golden_features, write_golden_caches, write_side

RATE_HZ = 16_000
LENGTHS = {11: "dQw4w9WgXcQ", 18: "---g-f_I2yQ_000001", 20: "zxpo56cpUBU_000007-0", 30: "000000014_zxpo56cpUBU_000007-0", 5: "a.b.c"}


def sound(place, gain=1.0):
    return gain * render_sound(draw_bounces(3, "evaluated", place, 1.5), RATE_HZ)


def write(folder, names, gain=1.0, first=0):
    folder.mkdir(exist_ok=True)
    for place, name in enumerate(names):
        soundfile.write(folder / f"{name}.flac", sound(place + first, gain), RATE_HZ)
    return folder


def read(path):
    return json.loads(path.read_text())


def test_ids_of_any_length_pair_exactly(run_command, tmp_path):
    real, made = write(tmp_path / "real", LENGTHS.values()), write(tmp_path / "made", LENGTHS.values())
    ended = run_command("evaluate", "--generated", made, "--reference", real)
    assert ended.code == 0, ended.err
    scores = read(made / "scores.json")
    assert (scores["counts"]["paired"], scores["counts"]["unexpected_ids"]) == (5, [])
    assert [row["id"] for row in scores["clips"]] == sorted(LENGTHS.values())
    assert scores["metrics"]["onset_f1"]["value"] == 1.0


@pytest.mark.parametrize("content", [b"no sound", b""])
def test_all_bad_sounds_end_soon_with_exit_3(run_command, tmp_path, content):
    real = write(tmp_path / "real", "ab")
    (tmp_path / "bad").mkdir()
    for name in "ab":
        (tmp_path / "bad" / f"{name}.flac").write_bytes(content)
    began = time.monotonic()
    ended = run_command("evaluate", "--generated", tmp_path / "bad", "--reference", real)
    assert time.monotonic() - began < 30
    assert ended.code == 3, ended.err
    scores = read(tmp_path / "bad" / "scores.json")
    assert [entry["id"] for entry in scores["failed"]] == ["a", "b"]
    assert all(told["value"] is None and told["reason"] for told in scores["metrics"].values())
    assert "0 of 2 clips scored, the first 8 s of each: nothing can be told" in ended.out


def test_too_little_of_the_reference_is_refused(run_command, tmp_path):
    real, made = write(tmp_path / "real", "abcd"), write(tmp_path / "made", "a")
    ended = run_command("evaluate", "--generated", made, "--reference", real)
    assert ended.code == 2
    assert "has a sound of 1 of the 4 reference ids (3 are missing, such as 'b'), and min_coverage is 0.5" in ended.err
    assert run_command("evaluate", "--generated", made, "--reference", real, "--min_coverage", "0.25").code == 3


def test_metrics_on_cached_features(run_command, tmp_path):
    """av-bench's own cache files, of the reference and of the generated sounds, as they are."""
    made = write(tmp_path / "made", NAMES[:3])
    (tmp_path / "captions.tsv").write_text("id\tcaption\n" + "".join(f"{name}\tx\n" for name in NAMES[:3]))
    for folder, side in zip((tmp_path / "gt", made / "cache"), golden_features(), strict=True):
        write_side(folder, side)
    words = ("--captions", tmp_path / "captions.tsv", "--reference_cache", tmp_path / "gt", "--metrics", "FD-VGG,IB-Score,MS-CLAP-Score")
    ended = run_command("evaluate", "--generated", made, *words, "--output", tmp_path / "scores.json")
    assert ended.code == 0, ended.err
    scores = read(tmp_path / "scores.json")
    assert list(scores["metrics"]) == ["FD-VGG", "IB-Score", "MS-CLAP-Score"]
    assert all(told["value"] is not None for told in scores["metrics"].values())
    assert all(0 < row["metrics"]["IB-Score"] < 1 for row in scores["clips"])
    assert scores["protocol"]["judges"]["reference/imagebind_video"].startswith("sha256:")


def test_a_metric_whose_features_nobody_has_says_so(run_command, tmp_path):
    real, made = write(tmp_path / "real", "ab"), write(tmp_path / "made", "ab")
    ended = run_command(
        "evaluate", "--generated", made, "--reference", real, "--metrics", "spectral_distance,FD-VGG", "--output", tmp_path / "s.json"
    )
    assert ended.code == 3, ended.err
    told = read(tmp_path / "s.json")["metrics"]["FD-VGG"]
    assert told["value"] is None
    assert "vggish_features" in told["reason"]
    assert "not told, for the reasons in the file: FD-VGG" in ended.out


@pytest.mark.parametrize(
    ("part", "content"),
    [
        ("protocol", [[]]),
        ("metrics", {"onset_f1": "x"}),
        ("metrics", {"onset_f1": {"value": "0.5"}}),
        ("metrics", {"onset_f1": {"value": 10**400}}),
        ("clips", "ab"),
        ("clips", [{"id": []}]),
        ("clips", [{"id": "a", "metrics": {"onset_f1": [1]}}]),
    ],
)
def test_scores_of_another_shape_are_not_compared(run_command, tmp_path, part, content):
    told = {"protocol": {"seed": 0}, "metrics": {"onset_f1": {"value": 0.5}}, "clips": [{"id": "a", "metrics": {"onset_f1": 0.5}}]}
    write_json(tmp_path / "a.json", told)
    write_json(tmp_path / "b.json", {**told, part: content})
    assert run_command("evaluate", "compare", tmp_path / "a.json", tmp_path / "a.json").code == 0
    ended = run_command("evaluate", "compare", tmp_path / "a.json", tmp_path / "b.json")
    assert (ended.code, ended.err) == (2, f"error: {tmp_path}/b.json holds no scores of this version; evaluate anew\n")


def test_two_results_side_by_side(run_command, tmp_path):
    real = write(tmp_path / "real", "abcd")
    for name, first in (("right", 0), ("wrong", 4)):
        write(tmp_path / name, "abcd", 0.5, first)
        run_command("evaluate", "--generated", tmp_path / name, "--reference", real, "--output", tmp_path / f"{name}.json")
    ended = run_command("evaluate", "compare", tmp_path / "wrong.json", tmp_path / "right.json", "--output", tmp_path / "both.json")
    assert ended.code == 0, ended.err
    rows = {row["name"]: row for row in read(tmp_path / "both.json")["metrics"]}
    low, high = rows["onset_f1"]["interval"]
    assert 0 < low <= rows["onset_f1"]["difference"] <= high
    assert rows["onset_f1"]["num_clips"] == 4
    assert "onset_f1" in ended.out
    shorter = read(tmp_path / "right.json")
    shorter["protocol"]["duration_s"] = 1.0
    write_json(tmp_path / "shorter.json", shorter)
    ended = run_command("evaluate", "compare", tmp_path / "wrong.json", tmp_path / "shorter.json")
    assert ended.code == 2
    assert "duration_s is 1.5 in the first result and 1.0 in the second" in ended.err
    ended = run_command("evaluate", "compare", tmp_path / "wrong.json", tmp_path / "shorter.json", "--but", "duration_s")
    assert ended.code == 0
    assert "not compared, for --but: duration_s" in ended.out
    ended = run_command("evaluate", "compare", tmp_path / "wrong.json", tmp_path / "none.json", "--but", "durations")
    assert (ended.code, "no file at" in ended.err) == (2, True)


def test_two_caches_alone(run_command, tmp_path):
    """The golden numbers of av-bench, from its files, by the command line."""
    real, made = write_golden_caches(tmp_path)
    wanted = [name for name in METRICS["evaluate_full"] if name != "DeSync"]
    words = ("--generated_cache", made, "--reference_cache", real)
    ended = run_command("evaluate", *words, "--metrics", ",".join(wanted))
    assert ended.code == 0, ended.err
    scores = read(made / "output_metrics.json")
    for name in wanted:
        assert scores["metrics"][name]["value"] == pytest.approx(METRICS["evaluate_full"][name], rel=1e-5), name
    assert len(scores["clips"]) == 24
    ended = run_command("evaluate", *words, "--unpaired", "--metrics", "FD-VGG,IB-Score", "--output", tmp_path / "u.json")
    assert ended.code == 3, ended.err  # one that was asked for needs pairs
    told = read(tmp_path / "u.json")["metrics"]
    assert told["FD-VGG"]["value"] == pytest.approx(METRICS["evaluate_unpaired"]["FD-VGG"], rel=1e-5)
    assert told["IB-Score"]["value"] is None
    assert run_command("evaluate", *words, "--metrics", "onset_f1").code == 2


def test_nan_features_are_a_sentence(run_command, tmp_path):
    made = write(tmp_path / "made", "ab")
    (tmp_path / "captions.tsv").write_text("id\tcaption\na\tx\nb\ty\n")
    write_features(tmp_path / "gt", "imagebind_video", {name: torch.ones(4) for name in "ab"})
    write_features(made / "cache", "imagebind_audio", {name: torch.ones(4) for name in "ab"})
    torch.save({"a": torch.full((4,), np.nan), "b": torch.ones(4)}, made / "cache" / "imagebind_audio.pth")
    words = ("--captions", tmp_path / "captions.tsv", "--reference_cache", tmp_path / "gt", "--metrics", "IB-Score")
    ended = run_command("evaluate", "--generated", made, *words)
    assert ended.code == 3, ended.err
    told = read(made / "scores.json")["metrics"]["IB-Score"]
    assert told["value"] is None
    assert "'a' holds NaN or infinity" in told["reason"]


def test_all_mistakes_are_heard_of_at_once(run_command, tmp_path):
    made = write(tmp_path / "made", "a")
    words = ("--metrics", "onset_f2,DeSync", "--min_coverage", "2", "--duration", "-1", "--output", "scores.txt", "--device", "mps")
    ended = run_command("evaluate", "--generated", made, *words, "--place", "synchformer", "--reference", tmp_path / "no")
    assert ended.code == 2
    for sentence in (
        "there is no metric 'onset_f2'",
        "--min_coverage is 2.0; want a share between 0 and 1",
        "--duration is -1.0",
        "--output is scores.txt",
        "--place is 'synchformer'; want NAME=PLACE",
        "device is 'mps'",
        "--reference is",
    ):
        assert sentence in ended.err, ended.err
    ended = run_command("evaluate", "--generated", made, "--reference", made, "--place", "synchfomer=x.pth")
    assert (ended.code, "no weights named 'synchfomer' (did you mean 'synchformer'?)" in ended.err) == (2, True)


def test_a_judge_is_checked_before_any_sound_is_read(run_command, tmp_path):
    made = write(tmp_path / "made", "a")
    words = ("evaluate", "--generated", made, "--reference", made, "--metrics", "DeSync")
    ended = run_command(*words, "--duration", "0.5", "--place", f"synchformer={tmp_path}/none.pth")
    assert ended.code == 2
    assert "the judge synchformer_audio takes at least 0.64 s; the duration is 0.5 s" in ended.err
    assert "none.pth" in ended.err


def test_caches_with_options_that_cannot_be_meant(run_command, tmp_path):
    real, made = write_golden_caches(tmp_path)
    words = ("--generated_cache", made, "--reference_cache", real, "--metrics", "FD-VGG")
    ended = run_command("evaluate", *words, "--min_coverage", "-1", "--place", "passt=x.pth")
    assert ended.code == 2
    assert "--min_coverage is -1.0; want a share between 0 and 1" in ended.err
    assert "--place names 'passt'" in ended.err and "want synchformer=PATH" in ended.err
    assert "--place is 'synchformer'; want NAME=PLACE" in run_command("evaluate", *words, "--place", "synchformer").err


def test_the_protocol_tells_no_rate_that_nobody_knows(run_command, tmp_path):
    made = write(tmp_path / "made", "ab")
    assert run_command("evaluate", "--generated", made, "--reference", made).code == 0
    protocol = read(made / "scores.json")["protocol"]
    assert protocol["compared_rate_hz"] == 16_000
    assert not {"sample_rate_hz", "rate_hz"} & protocol.keys()


def test_features_that_are_not_ours_are_not_replaced(run_command, tmp_path):
    real, made = write(tmp_path / "real", "ab"), write(tmp_path / "made", "ab")
    words = ("--generated", made, "--reference", real, "--metrics", "av_bench,embedded", "--output", tmp_path / "out" / "s.json")
    others = ("vggish_features.pth", "notes.txt")  # no extractor here writes them
    mine = [made / "cache" / name for name in ("passt_features_embed.pth", "passt_logits.pth", "synchformer_audio.pth", *others)]
    mine += [tmp_path / "out" / "reference-cache" / name for name in ("passt_logits.pth", "cache.json")]
    for path in mine:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"my {path}")
    ended = run_command("evaluate", *words)
    assert ended.code == 2 and "Traceback" not in ended.err
    for path in mine:
        assert (f"{path} was not made by this program" in ended.err) == (path.name not in others)
        assert path.read_text() == f"my {path}"
    assert f"mv {made}/cache {made}/cache.aside" in ended.err
    assert run_command("evaluate", *words[:-4], "--output", tmp_path / "out" / "s.json").code == 0, "they are in the way of features alone"


def test_one_job_at_a_time_writes_scores(run_command, tmp_path, monkeypatch):
    monkeypatch.setattr("mmaudio.files.locks.PATIENCE_S", 0.0)
    made, output = write(tmp_path / "made", "ab"), tmp_path / "scores.json"
    with hold_target(output, "it"):
        ended = run_command("evaluate", "--generated", made, "--reference", made, "--output", output)
    assert ended.code == 2 and f"another job is writing the scores {output}: process" in ended.err
    assert not output.exists()
