"""The `mmaudio` command: samples, scores and pages from a small set of videos, and what it says of mistakes."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from mmaudio.checkpoints.run_files import WeightsRecord
from mmaudio.checkpoints.save import save_file
from mmaudio.features import build_backend
from mmaudio.files.tables import write_table
from mmaudio.media.mp4 import write_video
from mmaudio.media.synthetic import draw_bounces, render_frames, render_sound
from mmaudio.network import build_network


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Three videos with captions, one of them shorter, and weights that have learned nothing."""
    folder = tmp_path_factory.mktemp("world")
    captions = {"00008004": "1e5", "a.b": "NA", "é🎈": "a ball"}
    for index, name in enumerate(captions):
        bounces = draw_bounces(21, "commands", index, 0.9 if name == "a.b" else 1.2)
        write_video(folder / "videos" / f"{name}.mp4", iter(render_frames(bounces)), 25, render_sound(bounces, 16_000), 16_000)
    write_table(folder / "set.tsv", ("id", "caption"), captions.items())
    torch.manual_seed(0)
    null = build_backend("lite", "16k").encode_text([""])[0]
    network = build_network("nano_16k", duration_s=1.0, latent_mean=torch.zeros(20), latent_std=torch.ones(20), empty_string_feat=null)
    torch.nn.init.normal_(network.final_layer.conv.weight, std=0.05)
    save_file(folder / "some.pth", network.state_dict(), WeightsRecord("nano_16k", "16k", 1.0, "lite", 0, "world"))
    return folder


def generate(run_command, world: Path, output: Path, *more):
    words = ("--weights", world / "some.pth", "--device", "cpu", "--num_steps", 2, "--output", output)
    return run_command("generate", *words, *more)


def test_generate_says_which_model_it_could_be(run_command):
    ended = run_command("generate", "--prompt", "rain")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "which model? give --weights FILE, or --variant NAME for a published one" in ended.err
    ended = run_command("generate", "--prompt", "rain", "--variant", "smal_16k")
    assert ended.code == 2
    assert "no published model 'smal_16k' (did you mean 'small_16k'?)" in ended.err


def test_generate_evaluate_report(run_command, world, tmp_path):
    videos = ("--video", world / "videos", "--captions", world / "set.tsv")
    ended = generate(run_command, world, tmp_path / "samples", *videos)
    assert ended.code == 0, ended.err
    made = sorted(path.name for path in (tmp_path / "samples").iterdir())
    assert made == sorted(f"{name}.{kind}" for name in ("00008004", "a.b", "é🎈") for kind in ("flac", "mp4"))
    wave, rate_hz = soundfile.read(tmp_path / "samples" / "00008004.flac")
    assert (rate_hz, len(wave)) == (16_000, 16_384)
    assert len(soundfile.read(tmp_path / "samples" / "a.b.flac")[0]) < 16_000, "a shorter video lowers the duration"

    one_by_one = generate(run_command, world, tmp_path / "singly", *videos, "--batch_size", 1, "--skip_video_composite")
    assert one_by_one.code == 0
    assert not list((tmp_path / "singly").glob("*.mp4"))
    again = soundfile.read(tmp_path / "singly" / "00008004.flac")[0]
    assert np.abs(again - wave).max() < 1e-3, "the batch size does not change a sample"

    scores = tmp_path / "scores.json"
    words = ("--generated", tmp_path / "samples", "--reference", world / "videos", "--captions", world / "set.tsv")
    ended = run_command("evaluate", *words, "--duration", 1.0, "--output", scores)
    assert ended.code == 0, ended.err
    told = json.loads(scores.read_text())
    assert told["counts"]["paired"] == 3
    assert {row["id"]: row["caption"] for row in told["clips"]} == {"00008004": "1e5", "a.b": "NA", "é🎈": "a ball"}

    ended = run_command("report", tmp_path, "--samples", tmp_path / "samples", "--reference", world / "videos", "--scores", scores)
    assert ended.code == 0, ended.err
    page = tmp_path / "report" / "index.html"
    assert f"page: {page}" in ended.out
    assert "1e5" in page.read_text()
    assert "http" not in page.read_text().replace("http://www.w3.org/2000/svg", ""), "the page needs no network"


def test_one_video_or_a_prompt_alone(run_command, world, tmp_path):
    ended = generate(run_command, world, tmp_path, "--video", world / "videos" / "a.b.mp4", "--prompt", "x", "--mask_away_clip")
    assert ended.code == 0, ended.err
    ended = generate(run_command, world, tmp_path, "--prompt", "rain / on a roof.", "--negative_prompt", "music", "--duration", 2)
    assert ended.code == 0, ended.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.b.flac", "a.b.mp4", "rain_on_a_roof.flac"]
    assert len(soundfile.read(tmp_path / "rain_on_a_roof.flac")[0]) == 63 * 512


def test_nothing_a_user_has_is_replaced(run_command, world, tmp_path):
    ended = generate(run_command, world, world / "videos", "--video", world / "videos", "--prompt", "x")
    assert ended.code == 2
    assert "would be replaced" in ended.err
    (tmp_path / "weights.pth").write_text("precious")
    (tmp_path / "metrics.jsonl").write_text("")
    ended = run_command("report", tmp_path, "--output", tmp_path)
    assert ended.code == 2
    assert "holds other files" in ended.err
    assert (tmp_path / "weights.pth").read_text() == "precious"
    for suffix in (".mp4", ".MOV"):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / "in" / f"a{suffix}").write_bytes((world / "videos" / "a.b.mp4").read_bytes())
    ended = generate(run_command, world, tmp_path / "out", "--video", tmp_path / "in", "--prompt", "x")
    assert ended.code == 2
    assert "several files named 'a'" in ended.err


def test_scores_of_something_else(run_command, world, tmp_path):
    (tmp_path / "scores.json").write_text("no json")
    words = ("--samples", tmp_path, "--reference", tmp_path, "--scores", tmp_path / "scores.json")
    ended = run_command("report", tmp_path, *words)
    assert ended.code == 2
    assert "scores.json is no file of scores" in ended.err


def test_a_broken_video_is_named_and_the_rest_is_made(run_command, world, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "good.mp4").write_bytes((world / "videos" / "é🎈.mp4").read_bytes())
    (tmp_path / "in" / "bad.mp4").write_bytes(b"not a video at all, no")
    ended = generate(run_command, world, tmp_path / "out", "--video", tmp_path / "in", "--prompt", "a ball")
    assert ended.code == 3
    assert "no sample for bad: not a media file" in ended.out
    assert (tmp_path / "out" / "good.flac").is_file()


@pytest.mark.parametrize(
    ("words", "sentences"),
    [
        (["generat"], ["no command 'generat' (did you mean 'generate'?)"]),
        (
            ["generate", "--weights", "w.pth", "--promt", "x"],
            ["--promt (did you mean '--prompt'?)", "nothing to generate", "w.pth, which is not"],
        ),
        (
            ["evaluate", "--generated", "g", "--reference", "r"],
            ["--reference is r, which is not a folder", "--generated is g, which is not a folder"],
        ),
        (["report", "nowhere", "--samples", "s"], ["no run at nowhere", "--samples is s", "--samples and --scores come together"]),
        (["store", "inf", "x"], ["no action 'inf' (did you mean 'info'?)"]),
        (["store", "info", "x"], ["no store at x"]),
    ],
)
def test_mistakes_are_sentences(run_command, tmp_path, monkeypatch, words, sentences):
    monkeypatch.chdir(tmp_path)
    ended = run_command(*words)
    assert ended.code == 2
    assert [sentence for sentence in sentences if sentence not in ended.err] == []
    assert "Traceback" not in ended.err
    assert list(tmp_path.iterdir()) == []


def test_weights_and_wishes_that_contradict_each_other(run_command, world, tmp_path):
    ended = generate(run_command, world, tmp_path, "--prompt", "x", "--variant", "nano_44k")
    assert ended.code == 2
    assert "they are weights of nano_16k" in ended.err
    ended = generate(run_command, world, tmp_path, "--prompt", "x", "--backend", "pretrained")
    assert ended.code == 2
    assert "trained on features of the lite backend" in ended.err
    ended = generate(run_command, world, tmp_path, "--prompt", "x", "--duration", 0.3)
    assert ended.code == 2
    assert "--duration: duration is 0.3 s; want at least 0.64 s" in ended.err
