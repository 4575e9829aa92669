"""evaluate.py: every row of a run, or of a set, once; the same samples with any number of processes; its sentences."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch

from mmaudio.base.errors import UserError
from mmaudio.codec import MelSpectrogram
from mmaudio.evaluation.sampling import begin_folder
from mmaudio.files.locks import hold_target
from mmaudio.media.audio import write_flac
from mmaudio.media.mp4 import write_video
from mmaudio.media.sample_marks import read_sample_mark, sample_mark
from mmaudio.media.synthetic import draw_bounces, render_frames, render_sound
from mmaudio.metrics.feature_cache import CACHE_FILES
from tests.conftest import ROOT, torchrun, train_in_process
from tests.trainer.tiny_stores import TINY, data_overrides, write_tiny_data

IDS = [*(f"held-{row}" for row in range(5)), *(f"winds-{row}" for row in range(4))]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of one step whose test data is a store of videos and one of recordings, repeated in training."""
    folder = tmp_path_factory.mktemp("run")
    overrides = [word for word in data_overrides(write_tiny_data(folder / "data")) if not word.startswith("data.test")]
    words = (*TINY, *overrides, "data.test=[held, winds]", "data.winds.repeat=2", "exp_id=one", "num_iterations=1", "sampling.num_steps=2")
    train_in_process(folder, *words, "evaluate.test=False")
    assert not (folder / "output/one/test-sampled").exists()
    return folder


def samples(run, folder="test-sampled"):
    """Id → log-mel of every sample: phase retrieval magnifies rounding in the wave, not in its spectrum."""
    files = sorted((run / "output/one" / folder).glob("*.flac"))
    return {path.stem: MelSpectrogram("16k")(torch.from_numpy(soundfile.read(path, dtype="float32")[0])[None]) for path in files}


def scores_of(run, name="test"):
    return json.loads((run / f"output/one/{name}-output_metrics.json").read_text())


def test_every_row_is_sampled_and_scored(run_script, run, monkeypatch):
    monkeypatch.chdir(run)
    ended = run_script("evaluate.py", "exp_id=one", "batch_size=3")
    assert ended.code == 0, ended.err
    scores = scores_of(run)
    assert sorted(samples(run)) == sorted(IDS)
    assert scores["counts"]["paired"] == scores["counts"]["reference"] == 9
    assert scores["subject"]["step"] == 1
    assert scores["protocol"]["decoder"]["backend"] == "lite"
    assert (scores["protocol"]["sample_rate_hz"], scores["protocol"]["compared_rate_hz"]) == (16_000, 16_000)


@pytest.mark.slow
def test_one_and_two_processes_sample_every_row_alike(run_script, run, monkeypatch):
    monkeypatch.chdir(run)
    assert run_script("evaluate.py", "exp_id=one", "batch_size=3").code == 0
    alone, scores = samples(run), scores_of(run)
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


def put_all(folder, *names):
    """Files of somebody else under these names. Returns: their states."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"my {name}")
    return {folder / name: f"my {name}" for name in names}


def test_all_that_is_not_ours_is_told_before_anything_is_loaded(run_script, run, monkeypatch):
    monkeypatch.chdir(run)
    monkeypatch.setattr("mmaudio.evaluation.evaluated_model.EvaluatedModel.load", lambda *_, **__: pytest.fail("loaded in vain"))
    results = run / "output/one"
    names = [f"{name}.pth" for name in CACHE_FILES]
    mine = put_all(results / "winds-mine-sampled", "samples.json", "winds-0.flac", "winds-3.flac", "holiday.flac", "cache/notes.txt")
    mine |= put_all(results / "winds-mine-sampled", *(f"{cache}/{name}" for cache in ("cache", "av_bench-cache") for name in names))
    mine |= put_all(results / "winds-mine-sampled", "cache/cache.json", "cache/.parts/passt/0000-000000.pth")
    mine |= put_all(results / "winds-reference", "winds-1.flac")
    mine |= put_all(results / "winds-reference-cache", "passt_logits.pth", "synchformer_video.pth", "cache.json")
    words = ("evaluate.py", "exp_id=one", "dataset=winds", "output_name=mine", "metrics.names=[embedded,av_bench]")
    for more in ((), ("keep_existing=False",)):
        ended = run_script(*words, *more)
        assert ended.code == 2 and "Traceback" not in ended.err
        told = ended.err.replace(f"{os.path.relpath(results)}/", "")
        assert "3 files in winds-mine-sampled were not made by this program" in told
        assert "('samples.json', 'winds-0.flac', 'winds-3.flac')" in told and "give output_name=NAME for another folder" in told
        assert f"mv output/one/winds-mine-sampled {os.path.relpath(results)}/winds-mine-sampled.aside" in ended.err
        for path in mine:
            is_in_the_way = path.name not in ("samples.json", "winds-0.flac", "winds-3.flac", "holiday.flac", "notes.txt")
            assert (f"{os.path.relpath(path, results)} was not made by this program" in told) == is_in_the_way, path
        assert {path: path.read_text() for path in mine} == mine
    shutil.rmtree(results / "winds-mine-sampled")
    (results / "winds-mine-sampled").write_text("mine")
    assert "output/one/winds-mine-sampled was not made by this program" in run_script(*words).err
    (results / "winds-mine-sampled").unlink()
    for name in ("winds-reference", "winds-reference-cache"):
        shutil.rmtree(results / name)


@pytest.mark.parametrize("kind", ["0.1.0", "published", "link to mine", "link to nothing", "of another set"])
def test_a_sample_is_ours_by_its_mark_alone(tmp_path, kind):
    folder, mine = tmp_path / "set", tmp_path / "mine.flac"
    begin_folder(folder, {"step": 1}, of="run/set", keeps=True)
    comment = {"0.1.0": "mmaudio evaluate 0123456789abcdef", "of another set": sample_mark("run/other", id="a")}.get(kind, "")
    if kind != "link to nothing":
        write_flac(mine if kind == "link to mine" else folder / "a.flac", np.full(4000, 0.5), 16_000, comment)
    if kind.startswith("link"):
        (folder / "a.flac").symlink_to(mine)
    before = mine.read_bytes() if mine.exists() else None
    for keeps in (True, False):
        with pytest.raises(UserError, match=r"a\.flac was not made by this program.*mv .*a\.flac.aside"):
            begin_folder(folder, {"step": 1}, ["a"], of="run/set", keeps=keeps)
        begin_folder(folder, {"step": 1}, ["b"], of="run/set", keeps=keeps)
    assert os.path.lexists(folder / "a.flac") and (mine.read_bytes() if mine.exists() else None) == before


def test_other_files_are_left_alone_and_not_counted_also_behind_a_link(run_script, run, monkeypatch):
    monkeypatch.chdir(run)
    results, place = run / "output/one", run / "elsewhere"
    (results / "winds-linked-sampled").symlink_to(place)
    place.mkdir()
    mine = put_all(place, "notes.txt", "winds-0.wav", "below/mine.flac")
    write_flac(place / "holiday.flac", np.full(16_384, 0.5, np.float32), 16_000)
    mine_too = (place / "holiday.flac").read_bytes()
    words = ("evaluate.py", "exp_id=one", "dataset=winds", "output_name=linked", "metrics.names=[spectral_distance]")
    for more in ((), ("keep_existing=False",), ("cfg_strength=1",)):
        ended = run_script(*words, *more)
        assert ended.code == 0, ended.err
        counts = scores_of(run, "winds-linked")["counts"]
        assert (counts["predicted"], counts["paired"], counts["unexpected_ids"]) == (4, 4, [])
        assert {path: path.read_text() for path in mine} == mine and (place / "holiday.flac").read_bytes() == mine_too
        assert (results / "winds-linked-sampled").is_symlink()
    assert sorted(path.name for path in place.glob("*.flac")) == ["holiday.flac", *(f"winds-{row}.flac" for row in range(4))]
    found = json.loads((place / "samples.json").read_text())["mark"]
    assert (found["kind"], found["of"]) == ("samples", "one/winds-linked-sampled")
    assert read_sample_mark(place / "winds-1.flac")["of"] == "one/winds-linked-sampled"


def test_one_evaluation_at_a_time_writes_results(run_script, run, monkeypatch):
    monkeypatch.chdir(run)
    monkeypatch.setattr("mmaudio.files.locks.PATIENCE_S", 0.0)
    words = ("evaluate.py", "exp_id=one", "dataset=winds", "output_name=held", "metrics.names=[]")
    for name, what in (("winds-held-sampled/samples.json", "samples in "), ("winds-held-output_metrics.json", "the scores ")):
        with hold_target(run / "output/one" / name, "it"):
            ended = run_script(*words)
        assert ended.code == 2 and f"another job is writing {what}output/one/winds-held" in ended.err
        assert f"process {os.getpid()} on" in ended.err
    assert not (run / "output/one/winds-held-sampled").exists()
    assert run_script(*words).code == 0


@pytest.mark.slow
def test_of_two_evaluations_at_once_the_scores_are_of_the_sounds(run):
    words = (sys.executable, ROOT / "evaluate.py", "exp_id=one", "dataset=held", "output_name=race")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "cwd": run}
    both = [subprocess.Popen([*map(str, words), f"seed={seed}"], **pipes) for seed in (1, 2)]
    told = [each.communicate(timeout=120)[0] for each in both]
    refused = [text for each, text in zip(both, told, strict=True) if each.returncode == 2]  # unless one was done when the other began
    assert {each.returncode for each in both} <= {0, 2} and len(refused) < 2, told
    assert all("another job is writing samples in output/one/held-race-sampled: process" in text for text in refused)
    made_by = json.loads((run / "output/one/held-race-sampled/samples.json").read_text())
    assert made_by["seed"] == scores_of(run, "held-race")["subject"]["seed"]
