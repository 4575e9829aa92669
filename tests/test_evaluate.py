"""evaluate.py: every row of a run, or of a set, once; the same samples with any number of processes; its sentences."""

import json
import os

import numpy as np
import pytest
import soundfile
import torch

from mmaudio.codec import MelSpectrogram
from mmaudio.media.audio import write_flac
from mmaudio.media.example import draw_bounces, render_frames, render_sound
from mmaudio.media.write import write_video
from tests.conftest import ROOT, torchrun
from tests.trainer.tiny_stores import TINY, data_overrides, write_tiny_data

IDS = [*(f"held-{row}" for row in range(5)), *(f"winds-{row}" for row in range(4))]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of one step whose test data is a store of videos and one of recordings, repeated in training."""
    folder = tmp_path_factory.mktemp("run")
    overrides = [word for word in data_overrides(write_tiny_data(folder / "data")) if not word.startswith("data.test")]
    words = (*TINY, *overrides, "data.test=[held, winds]", "data.winds.repeat=2", "exp_id=one", "num_iterations=1", "sampling.num_steps=2")
    ended = torchrun(ROOT / "train.py", *words, "evaluate.test=False", processes=1, cwd=folder)
    assert ended.returncode == 0, ended.stderr
    assert not (folder / "output/one/test-sampled").exists()
    return folder


def samples(run, folder="test-sampled"):
    """Id → log-mel of every sample: phase retrieval magnifies rounding in the wave, not in its spectrum."""
    files = sorted((run / "output/one" / folder).glob("*.flac"))
    return {path.stem: MelSpectrogram("16k")(torch.from_numpy(soundfile.read(path, dtype="float32")[0])[None]) for path in files}


def scores_of(run, name="test"):
    return json.loads((run / f"output/one/{name}-output_metrics.json").read_text())


def test_one_and_two_processes_sample_every_row_alike(run_script, run, monkeypatch):
    monkeypatch.chdir(run)
    ended = run_script("evaluate.py", "exp_id=one", "batch_size=3")
    assert ended.code == 0, ended.err
    alone, scores = samples(run), scores_of(run)
    assert sorted(alone) == sorted(IDS)
    assert scores["counts"]["paired"] == scores["counts"]["reference"] == 9
    assert scores["subject"]["step"] == 1
    assert scores["protocol"]["decoder"]["backend"] == "lite"
    assert (scores["protocol"]["sample_rate_hz"], scores["protocol"]["compared_rate_hz"]) == (16_000, 16_000)
    again = torchrun(ROOT / "evaluate.py", "exp_id=one", "output_name=both", processes=2, cwd=run)
    assert again.returncode == 0, again.stderr
    both = samples(run, "test-both-sampled")
    assert both.keys() == alone.keys()
    assert max(float((both[name] - alone[name]).abs().mean()) for name in alone) < 0.02
    shared = scores_of(run, "test-both")
    assert shared["protocol"] == scores["protocol"]
    assert [row["id"] for row in shared["clips"]] == sorted(IDS)
    assert abs(shared["metrics"]["onset_f1"]["value"] - scores["metrics"]["onset_f1"]["value"]) < 0.05


def test_what_is_there_is_kept_and_what_others_made_is_not(run_script, run, monkeypatch):
    monkeypatch.chdir(run)
    words = ("evaluate.py", "exp_id=one", "output_name=kept", "dataset=held", "metrics.names=[]")
    assert run_script(*words).code == 0
    folder = run / "output/one/held-kept-sampled"
    made = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.flac")}
    os.remove(folder / "held-4.flac")
    assert run_script(*words, "batch_size=1").code == 0
    now = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.flac")}
    assert now.keys() == made.keys()
    assert [name for name in now if now[name] != made[name]] == ["held-4.flac"]
    (folder / "held-0.flac").write_bytes((folder / "held-0.flac").read_bytes()[:3000])  # cut off
    for one, other in ((1, 9), (2, 1), (9, 2)):  # two are exchanged
        os.replace(folder / f"held-{one}.flac", folder / f"held-{other}.flac")
    assert run_script(*words, "batch_size=1").code == 0
    mended = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.flac")}
    assert [name for name in sorted(mended) if mended[name] > max(now.values())] == ["held-0.flac", "held-1.flac", "held-2.flac"]
    assert run_script(*words, "max_rows=2").code == 0
    assert {path.name: path.stat().st_mtime_ns for path in folder.glob("*.flac")} == mended  # a smaller set throws nothing away
    now = mended
    ended = run_script(*words, "cfg_strength=1")
    assert "made by other weights or settings, and are made anew" in ended.out
    assert all(path.stat().st_mtime_ns > now[path.name] for path in folder.glob("*.flac"))


def test_real_sounds_may_be_given(run_script, run, monkeypatch):
    monkeypatch.chdir(run)
    for row in range(5):
        write_flac(run / "real" / f"held-{row}.flac", np.sin(np.arange(16_384) / 20).astype(np.float32), 16_000)
    ended = run_script("evaluate.py", "exp_id=one", "reference=real", "output_name=real", "metrics.names=[spectral_distance]")
    assert ended.code == 3, ended.err  # four rows have no real sound
    scores = scores_of(run, "test-real")
    assert (scores["counts"]["paired"], len(scores["counts"]["missing_ids"])) == (5, 0)
    assert list(scores["metrics"]) == ["spectral_distance"]


def test_a_set_of_videos_with_a_table(run_script, run, monkeypatch):
    monkeypatch.chdir(run)
    (run / "videos").mkdir()
    (run / "videos" / "street").mkdir()
    for place, name in enumerate(("a.b", "street/c")):
        bounces = draw_bounces(3, "set", place, 1.5)
        write_video(run / "videos" / f"{name}.mp4", render_frames(bounces), 25, render_sound(bounces, 16_000), 16_000)
    (run / "set.tsv").write_text("id\tlabel\na.b\ta ball\nstreet/c\ttwo balls\ngone\tno video\n")
    words = ("evaluate.py", "exp_id=one", "dataset=mine", "eval_data.mine.tsv=set.tsv", "eval_data.mine.video_path=videos")
    ended = run_script(*words)
    assert ended.code == 3, ended.err
    scores = scores_of(run, "mine")
    assert (scores["counts"]["paired"], scores["counts"]["reference"], list(scores["not_sampled"])) == (2, 3, ["gone"])
    assert [row["video_file"] for row in scores["clips"]] == ["videos/a.b.mp4", "videos/street/c.mp4"]
    made = run / "output/one/mine"
    assert sorted(str(path.relative_to(made)) for path in made.rglob("*.flac")) == ["a.b.flac", "street/c.flac"]
    assert json.loads((made / "samples.json").read_text())["files"] == {"a.b.flac": "a.b", "street/c.flac": "street/c"}
    (run / "set.tsv").write_text("id\tlabel\na.b\tx\n../videos/a.b\tx\n")
    ended = run_script(*words)
    assert ended.code == 2 and "set.tsv has 1 ids that are absolute paths or hold '..' or NUL ('../videos/a.b')" in ended.err
    (run / "set.tsv").write_text("id\tlabel\na\tx\na.flac/b\tx\n")
    ended = run_script(*words[:3], words[3])
    assert ended.code == 2 and "the file of the id 'a' would be where the folder of 'a.flac/b' is" in ended.err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["exp_di=one"], "unknown setting exp_di (did you mean 'exp_id'?)"),
        (["exp_id=two", "model=nano_16k", "dataset=audiocaps"], "no table at ../data/AudioCaps-test-audioldm-ver/data.csv"),
        (["exp_id=two"], "no run at output/two; for a published model say which: model=NAME"),
        (["exp_id=two", "model=small_16k", "dataset=test"], "data/v1-16-memmap/vgg-test has no"),
        (["exp_id=one", "device=gpu", "batch_size=none"], "batch_size is 'none'"),
        (["exp_id=one", "device=mps"], "device is 'mps'; want cuda, cuda:N, cpu or auto"),
        (["exp_id=one", "reference=nowhere"], "no folder at nowhere"),
        (["exp_id=one", "metrics.names=[onset_f2]"], "there is no metric 'onset_f2' (did you mean 'onset_f1'?)"),
        (["exp_id=one", "dataset=hold"], "dataset is 'hold' (did you mean 'held'?)"),
        (["exp_id=one", "weights=none.pth"], "weights is none.pth, which is not a file"),
        (["exp_id=one", "metrics.names=[DeSync]", "synchformer_ckpt=none.pth"], "none.pth"),
        (["exp_id=one", "metrics.engine=av_bench", "metrics.names=[FD-VGG]"], "is on no package registry"),
    ],
)
def test_mistakes_are_sentences(run_script, run, monkeypatch, words, sentence):
    monkeypatch.chdir(run)
    ended = run_script("evaluate.py", *words)
    assert ended.code == 2
    assert sentence in ended.err
