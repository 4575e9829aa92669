"""`mmaudio generate`: what may go in, what comes out, what goes on where it stopped, and what is said of mistakes."""

import json
import os
import time

import av
import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from mmaudio.checkpoints.run_files import WeightsRecord
from mmaudio.checkpoints.save import save_file
from mmaudio.features import build_backend
from mmaudio.files.locks import hold_target
from mmaudio.generate.requests import name_of_prompt
from mmaudio.media.audio import write_flac
from mmaudio.media.mp4 import write_video
from mmaudio.media.sample_marks import read_sample_mark, sample_mark
from mmaudio.network import build_network
from tests.conftest import torchrun
from tests.media.made_videos import make_video


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Weights that have learned nothing, two videos and an image."""
    folder = tmp_path_factory.mktemp("world")
    null = build_backend("lite", "16k").encode_text([""])[0]
    torch.manual_seed(0)
    network = build_network("nano_16k", duration_s=1.0, latent_mean=torch.zeros(20), latent_std=torch.ones(20), empty_string_feat=null)
    torch.nn.init.normal_(network.final_layer.conv.weight, std=0.05)
    for block in (network.joint_blocks[0].latent_block, network.fused_blocks[0], network.final_layer):
        torch.nn.init.normal_(block.adaLN_modulation[1].weight, std=0.1)
    save_file(folder / "some.pth", network.state_dict(), WeightsRecord("nano_16k", "16k", 1.0, "lite", 0, "world"))
    for name, seconds in (("ball", 1.2), ("car", 1.1)):
        make_video(folder / "videos" / f"{name}.mp4", seconds)
    Image.new("L", (31, 21), 99).save(folder / "hill.png")
    return folder


@pytest.fixture
def generate(run_command, world):
    def run(output, *words):
        return run_command("generate", "--weights", world / "some.pth", "--device", "cpu", "--num_steps", 2, "--output", output, *words)

    return run


def heard(path):
    return soundfile.read(path)[0]


def made(folder):
    return sorted(path.name for path in folder.iterdir())


def write_lines(path, *lines):
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), encoding="utf-8")
    return path


def test_files_folders_patterns_and_images_together(generate, world, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "sky.jpg")
    words = ("--video", world / "videos" / "ball.mp4", "--video", f"{world}/videos/*.mp4", "--image", world / "hill.png")
    ended = generate(tmp_path / "out", *words, "--image", tmp_path, "--prompt", "wind")
    assert ended.code == 0, ended.err
    assert made(tmp_path / "out") == [f"{name}.{kind}" for name in ("ball", "car", "hill", "sky") for kind in ("flac", "mp4")]
    with av.open(str(tmp_path / "out" / "hill.mp4")) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio"]
        assert (container.streams.video[0].width, container.streams.video[0].frames) == (32, 1)
    assert not np.allclose(heard(tmp_path / "out" / "hill.flac"), heard(tmp_path / "out" / "sky.flac"), atol=1e-3)


def test_an_image_counts_as_a_scene_without_motion(generate, world, tmp_path):
    name = write_lines(tmp_path / "a.jsonl", {"image": str(world / "hill.png"), "name": "x"})
    generate(tmp_path / "seen", "--jsonl", name)
    generate(tmp_path / "masked", "--jsonl", name, "--mask_away_clip", "--skip_video_composite")
    alone = write_lines(tmp_path / "b.jsonl", {"name": "x", "prompt": "."})
    generate(tmp_path / "alone", "--jsonl", alone)
    assert made(tmp_path / "masked") == ["x.flac"]
    assert not np.allclose(heard(tmp_path / "seen" / "x.flac"), heard(tmp_path / "masked" / "x.flac"), atol=1e-3)


def test_lines(generate, world, tmp_path):
    (tmp_path / "near.mp4").write_bytes((world / "videos" / "ball.mp4").read_bytes())
    lines = write_lines(
        tmp_path / "in.jsonl",
        {"video": "near.mp4", "prompt": "a", "name": "é 🎈.b", "seed": 7},
        "",
        {"prompt": "rain / on a roof.", "duration": 2, "negative_prompt": None},
        {"prompt": "rain: on a roof?", "negative_prompt": "music"},
        {"name": "default"},
    )
    ended = generate(tmp_path / "out", "--jsonl", lines, "--prompt", "rain on a roof", "--negative_prompt", "noise")
    assert ended.code == 0, ended.err
    assert made(tmp_path / "out") == ["default.flac", "rain_on_a_roof.flac", "rain_on_a_roof_2.flac", "é 🎈.b.flac", "é 🎈.b.mp4"]
    assert len(heard(tmp_path / "out" / "rain_on_a_roof.flac")) == 63 * 512
    apart = write_lines(tmp_path / "one.jsonl", {"name": "rain_on_a_roof_2", "prompt": "rain: on a roof?", "negative_prompt": "music"})
    generate(tmp_path / "one", "--jsonl", apart)
    same = heard(tmp_path / "one" / "rain_on_a_roof_2.flac"), heard(tmp_path / "out" / "rain_on_a_roof_2.flac")
    assert np.abs(same[0] - same[1]).mean() < 2e-3, "a sample is a function of its seed and name, and Griffin-Lim of little more"
    generate(tmp_path / "seed", "--jsonl", apart, "--seed", 43)
    assert np.abs(heard(tmp_path / "seed" / "rain_on_a_roof_2.flac") - same[0]).mean() > 1e-2


def test_what_is_there_may_be_kept(generate, world, tmp_path):
    words = ("--video", world / "videos", "--prompt", "x", "--keep_existing")
    assert generate(tmp_path, *words).code == 0
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    (tmp_path / "car.mp4").unlink()
    ended = generate(tmp_path, *words)
    assert (ended.code, ended.out.strip().splitlines()[-1]) == (0, f"2 of 2 samples in {tmp_path}, 1 of them from before")
    after = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert {name for name in after if after[name] != before[name]} == {"car.flac", "car.mp4"}
    ended = generate(tmp_path, *words)
    assert (ended.code, ended.out.strip().splitlines()[-1]) == (0, f"2 of 2 samples in {tmp_path}, 2 of them from before")


def test_what_was_made_otherwise_does_not_pass_for_these(generate, world, tmp_path):
    car = tmp_path / "car.mp4"
    car.write_bytes((world / "videos" / "car.mp4").read_bytes())
    out = tmp_path / "out"
    words = ("--video", world / "videos" / "ball.mp4", "--video", car, "--keep_existing", "--duration", 0.64)

    def made_anew(*more, prompt="x"):
        ended = generate(out, *words, "--prompt", prompt, *more)
        assert ended.code == 0, ended.err
        told = "were not made by these weights, settings, prompts and files" in ended.out
        kept = int(ended.out.rpartition(", ")[2].split()[0]) if "of them from before" in ended.out else 0
        return 2 - kept, told

    assert made_anew() == (2, False)
    assert made_anew("--batch_size", 1) == (0, False)
    for more in (("--seed", 43), ("--negative_prompt", "music"), ("--num_steps", 3), ("--mask_away_clip",), ("--reencode",), ()):
        assert made_anew(*more) == (2, True), more
    assert made_anew(prompt="y") == (2, True)
    other = torch.load(world / "some.pth", weights_only=True)
    other["final_layer.conv.bias"] = other["final_layer.conv.bias"] + 1
    save_file(tmp_path / "other.pth", other, WeightsRecord("nano_16k", "16k", 1.0, "lite", 0, "world"))
    assert made_anew("--weights", tmp_path / "other.pth", prompt="y") == (2, True)
    assert made_anew("--weights", tmp_path / "other.pth", prompt="y") == (0, False)
    make_video(car, 1.4)
    assert made_anew("--weights", tmp_path / "other.pth", prompt="y") == (1, True)


def test_a_video_of_another_sound_is_made_anew_and_a_sound_that_says_nothing_is_not_replaced(generate, world, tmp_path):
    words = ("--video", world / "videos" / "ball.mp4", "--duration", 0.64)
    assert generate(tmp_path, *words).code == 0
    assert generate(tmp_path, *words, "--prompt", "x", "--skip_video_composite").code == 0
    ended = generate(tmp_path, *words, "--prompt", "x", "--keep_existing")
    assert "from before" not in ended.out, "the video has the sound of the first call"
    soundfile.write(tmp_path / "ball.flac", np.zeros(9000), 16000)
    ended = generate(tmp_path, *words, "--prompt", "x", "--keep_existing", "--skip_video_composite")
    assert (ended.code, "ball.flac was not made by this program" in ended.err) == (2, True)
    ended = generate(tmp_path, *words, "--prompt", "x", "--keep_existing", "--skip_video_composite", "--replace")
    assert ended.code == 0 and "from before" not in ended.out
    assert not soundfile.read(tmp_path / "ball.flac.aside")[0].any()
    assert "1 of them from before" in generate(tmp_path, *words, "--prompt", "x", "--keep_existing", "--skip_video_composite").out


@pytest.mark.parametrize("method", ["midpoint", "adaptive"])
def test_solvers_and_precision(generate, world, tmp_path, method):
    words = ("--prompt", "x", "--cfg_strength", 0, "--full_precision", "--duration", 0.64)
    assert generate(tmp_path / "many", *words, "--num_steps", 40, "--method", "heun").code == 0
    ended = generate(tmp_path / "out", *words, "--method", method, "--num_steps", 20)
    assert ended.code == 0, ended.err
    assert ("adaptive: " in ended.out) == (method == "adaptive")
    assert np.abs(heard(tmp_path / "out" / "x.flac") - heard(tmp_path / "many" / "x.flac")).mean() < 0.02


def test_what_an_mp4_cannot_hold_can_be_encoded_anew(generate, tmp_path):
    source = tmp_path / "in" / "odd.webm"
    source.parent.mkdir()
    with av.open(str(source), "w") as container:
        stream = container.add_stream("libvpx", rate=25)
        stream.width, stream.height, stream.pix_fmt = 47, 33, "yuv420p"
        for level in range(30):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((33, 47, 3), 4 * level, np.uint8), format="rgb24")))
        container.mux(stream.encode(None))
    ended = generate(tmp_path / "out", "--video", source, "--prompt", "x")
    assert ended.code == 3
    assert "no .mp4 of odd: only its sound is made: its picture is vp8, which an .mp4 cannot hold" in ended.out
    assert "--reencode" in ended.out and made(tmp_path / "out") == ["odd.flac"]
    ended = generate(tmp_path / "out", "--video", source, "--prompt", "x", "--reencode", "--keep_existing")
    assert ended.code == 0, ended.err
    with av.open(str(tmp_path / "out" / "odd.mp4")) as container:
        picture, sound = container.streams
        assert (picture.codec_context.name, picture.width, picture.height) == ("h264", 48, 34)
        assert abs(sound.duration * sound.time_base - picture.duration * picture.time_base) <= 1 / 25


def test_a_folder_without_anything_usable_ends_soon(generate, tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    for index in range(5):
        (tmp_path / "in" / f"{index}.mp4").write_bytes(b"not a video at all, no")
    make_video(tmp_path / "in" / "short.mp4", 0.3)
    Image.new("L", (9000, 2)).save(tmp_path / "in" / "thin.png")
    monkeypatch.setattr("mmaudio.generate.model.load_weights", lambda path: pytest.fail("a model was loaded in vain"))
    began = time.monotonic()
    ended = generate(tmp_path / "out", "--video", tmp_path / "in", "--image", tmp_path / "in")
    assert ended.code == 3 and time.monotonic() - began < 30
    assert ended.out.count("no sample for ") == 7 and "0 of 7 samples" in ended.out
    assert "no sample for short: too short: 0." in ended.out


def test_a_sample_that_is_no_number_is_not_written(generate, tmp_path, monkeypatch):
    monkeypatch.setattr("mmaudio.features.backend.Backend.decode", lambda self, latent: torch.full((len(latent), 512), torch.nan))
    ended = generate(tmp_path / "out", "--prompt", "x")
    assert ended.code == 3 and "no sample for x: the model made numbers that are not finite" in ended.out
    assert not (tmp_path / "out").exists()


def test_mistakes_are_told_all_at_once(run_command, world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = write_lines(
        tmp_path / "in.jsonl",
        {"promt": "x"},
        {"video": "gone.mp4"},
        {"prompt": 3},
        {"duration": 0.1, "prompt": "x"},
        {"name": "a/b", "prompt": "x"},
        "{",
        "[]",
        {"seed": True, "prompt": "x"},
        {"image": "a", "video": "b"},
        {"seed": 3},
        '{"duration": Infinity, "prompt": "x"}',
        {"name": "n" * 200, "prompt": "x"},
    )
    ended = run_command(
        *("generate", "--weights", "w.pth", "--jsonl", lines, "--video", "gone/*.mp4", "--image", "gone.png", "--num_steps", 0),
        *("--method", "huen", "--duration", 0.1, "--full_precision", "--dtype", "bf16", "--reencode", "--skip_video_composite", "--sed", 1),
    )
    assert ended.code == 2 and "Traceback" not in ended.err
    for sentence in (
        "in.jsonl, line 1: unknown key 'promt' (did you mean 'prompt'?); known are video, image, prompt",
        f"in.jsonl, line 2: no video at {tmp_path / 'gone.mp4'}",
        "line 3: prompt is 3; want a text",
        "line 4: duration is 0.1 s; want at least 0.64 s",
        "line 5: name is 'a/b'; want a name of files, without slashes",
        "line 6 is not JSON (",
        "line 7 is no JSON object",
        "line 8: seed is true; want a whole number",
        "line 9 names both a video and an image",
        "line 10 has neither video, image nor prompt",
        "line 11: duration is inf s",
        "line 12: name is",
        "--video is gone/*.mp4, a pattern without any of .mp4",
        "--image is gone.png, which is neither a file nor a folder",
        "--num_steps 0 and --batch_size 16 have to be at least 1",
        "--method is 'huen' (did you mean 'heun'?); known are euler, midpoint, heun, adaptive",
        "--duration: duration is 0.1 s",
        "--full_precision and --dtype bf16 contradict",
        "--reencode is about the .mp4",
        "unknown option --sed (did you mean '--seed'?)",
        "w.pth, which is not a file",
    ):
        assert sentence in ended.err
    assert made(tmp_path) == ["in.jsonl"]


def test_captions_belong_to_one_folder(run_command, world, tmp_path):
    ended = run_command("generate", "--variant", "small_16k", "--video", world / "videos" / "ball.mp4", "--captions", tmp_path / "a.tsv")
    assert ended.code == 2 and "give one --video FOLDER with it" in ended.err
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "loud.M4V").touch()
    (tmp_path / "a.tsv").write_text("id\tlabel\nloud\ta bang\ngone\tnothing\n")
    ended = run_command("generate", "--variant", "small_16k", "--video", tmp_path / "in", "--captions", tmp_path / "a.tsv")
    assert (
        ended.code == 2 and f"1 of the 2 ids of {tmp_path / 'a.tsv'} have no video in {tmp_path / 'in'}, the first is 'gone'" in ended.err
    )


def test_names_of_prompts():
    assert name_of_prompt("a dog / barks. Twice!") == "a_dog_barks_Twice"
    assert name_of_prompt("../../etc/passwd") == "etc_passwd"
    assert name_of_prompt("犬が吠える") == "犬が吠える"
    assert (name_of_prompt(""), name_of_prompt("?!"), name_of_prompt("\ud800 x")) == ("unnamed", "unnamed", "x")
    assert len(name_of_prompt("雨" * 500).encode()) <= 80 and set(name_of_prompt("雨" * 500)) == {"雨"}


def test_a_mistake_is_told_once_under_torchrun(tmp_path):
    ended = torchrun("-m", "mmaudio.commands.main", "generate", "--weights", "gone.pth", "--prompt", "x", OMP_NUM_THREADS="1")
    assert ended.returncode == 1 and "exitcode  : 2" in ended.stderr
    assert ended.stderr.count("error: --weights is gone.pth, which is not a file") == 1


@pytest.mark.slow
def test_under_torchrun_each_process_makes_its_share(generate, world, tmp_path):
    (tmp_path / "in").mkdir()
    for index in range(5):
        (tmp_path / "in" / f"{index}.mp4").write_bytes((world / "videos" / "ball.mp4").read_bytes())
    (tmp_path / "in" / "bad.mp4").write_bytes(b"not a video at all, no")
    words = ("--video", tmp_path / "in", "--prompt", "x")
    assert generate(tmp_path / "one", *words).code == 3
    common = ("--weights", world / "some.pth", "--device", "cpu", "--num_steps", 2)
    ended = torchrun("-m", "mmaudio.commands.main", "generate", *common, *words, "--output", tmp_path / "two", OMP_NUM_THREADS="1")
    assert ended.returncode == 1, "torchrun's own code for workers that left with 3"
    assert "exitcode  : 3" in ended.stderr
    assert ended.stdout.count("5 of 6 samples in") == 1 and ended.stdout.count("no sample for bad: not a media file") == 1
    assert made(tmp_path / "two") == made(tmp_path / "one")
    for index in range(5):
        assert np.abs(heard(tmp_path / "one" / f"{index}.flac") - heard(tmp_path / "two" / f"{index}.flac")).mean() < 5e-3
    ended = torchrun(
        *("-m", "mmaudio.commands.main", "generate", *common, "--video", tmp_path / "in" / "[0-9].mp4", "--prompt", "x"),
        *("--output", tmp_path / "two", "--keep_existing"),
        OMP_NUM_THREADS="1",
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("5 of 5 samples in") == 1 and "5 of them from before" in ended.stdout


def test_every_file_says_whose_it_is_and_sounds_and_pictures_are_as_without(generate, world, tmp_path):
    words = ("--video", world / "videos" / "ball.mp4", "--image", world / "hill.png", "--prompt", "x", "--duration", 0.64)
    assert generate(tmp_path / "out", *words).code == 0
    assert generate(tmp_path / "anew", *words[:2], *words[4:], "--reencode").code == 0
    for path in (*(tmp_path / "out").iterdir(), *(tmp_path / "anew").iterdir()):
        found = read_sample_mark(path)
        assert (found["program"], found["kind"], found["of"], found["format"]) == ("mmaudio", "sample", path.stem, 1)
    with av.open(str(tmp_path / "out" / "ball.mp4")) as container:
        assert json.loads(container.metadata["comment"]) == read_sample_mark(tmp_path / "out" / "ball.flac")
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    with av.open(str(world / "videos" / "ball.mp4")) as container:
        assert packets == [bytes(packet) for packet in container.demux(video=0) if packet.size]


FOREIGN = ["recording", "text", "empty", "folder", "link", "dangling", "other name", "other version", "0.1.0"]


def put(path, kind, tmp_path):
    """Something that is not ours under a name that is ours to write. Returns: what it is, and what must stay as it is."""
    mine = tmp_path / f"mine{path.suffix}"
    if kind == "text":
        path.write_text("mine")
    elif kind == "empty":
        path.touch()
    elif kind == "folder":
        path.mkdir()
        (path / "mine").write_text("mine")
        return path / "mine"
    elif kind == "dangling":
        path.symlink_to(mine)
        return path
    else:
        place = mine if kind == "link" else path
        comment = {
            "other name": sample_mark("another"),
            "other version": json.dumps({"program": "mmaudio", "format": 99, "kind": "sample", "of": path.stem}),
            "0.1.0": "mmaudio generate 0123456789abcdef",
        }.get(kind, "")
        if path.suffix == ".flac":
            write_flac(place, np.full(4000, 0.5), 16_000, comment)
        else:
            write_video(place, [np.zeros((16, 16, 3), np.uint8)] * 5, 25, comment=comment)
        if kind == "link":
            path.symlink_to(place)
            return place
    return path


def state(path):
    return path.readlink() if path.is_symlink() else path.read_bytes()


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("name", ["hill.flac", "hill.mp4"])
def test_what_it_did_not_make_is_not_replaced(generate, world, tmp_path, kind, name):
    out = tmp_path / "out"
    out.mkdir()
    kept = put(out / name, kind, tmp_path)
    before, words = state(kept), ("--image", world / "hill.png", "--prompt", "x", "--duration", 0.64)
    for more in ((), ("--keep_existing",)):
        ended = generate(out, *words, *more)
        assert ended.code == 2
        assert f"{out / name} was not made by this program" in ended.err and f"mv {out / name} {out / name}.aside" in ended.err
        assert "--replace" in ended.err and state(kept) == before and made(out) == [name]


def test_replace_moves_it_aside_and_what_is_ours_is_replaced_without(generate, world, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    for name in ("hill.flac", "hill.mp4", "mine.flac"):
        (out / name).write_text("mine")
    words = ("--image", world / "hill.png", "--prompt", "x", "--duration", 0.64)
    ended = generate(out, *words)
    assert (ended.code, f"2 files in {out} were not made by this program" in ended.err) == (2, True)
    ended = generate(out, *words, "--replace")
    assert ended.code == 0, ended.err
    assert made(out) == ["hill.flac", "hill.flac.aside", "hill.mp4", "hill.mp4.aside", "mine.flac"]
    assert {(out / name).read_text() for name in ("hill.flac.aside", "hill.mp4.aside", "mine.flac")} == {"mine"}
    (tmp_path / "link").symlink_to(out)
    for place in (out, tmp_path / "link", tmp_path / "link"):
        assert generate(place, *words).code == 0
    assert (tmp_path / "link").is_symlink() and len(made(out)) == 5


def test_what_appears_meanwhile_is_not_replaced_either(generate, tmp_path, monkeypatch):
    def decode(self, latent):
        (tmp_path / "x.flac").write_text("mine")
        return torch.zeros(len(latent), 512)

    monkeypatch.setattr("mmaudio.features.backend.Backend.decode", decode)
    ended = generate(tmp_path, "--prompt", "x")
    assert ended.code == 3 and "x.flac was not made by this program" in ended.out
    assert (tmp_path / "x.flac").read_text() == "mine"


def test_one_call_at_a_time_writes_to_a_folder(generate, world, tmp_path, monkeypatch):
    monkeypatch.setattr("mmaudio.files.locks.PATIENCE_S", 0.0)
    with hold_target(tmp_path / "out" / "samples.json", "samples"):
        ended = generate(tmp_path / "out", "--prompt", "x")
        assert ended.code == 2 and f"another job is writing samples in {tmp_path / 'out'}: process {os.getpid()} on" in ended.err
    assert not (tmp_path / "out").exists()
    assert generate(tmp_path / "out", "--prompt", "x", "--duration", 0.64).code == 0 and made(tmp_path / "out") == ["x.flac"]


@pytest.mark.slow
def test_a_folder_that_is_written_to_is_told_by_one_of_two_processes(world, tmp_path):
    words = ("--weights", world / "some.pth", "--device", "cpu", "--prompt", "x", "--output", tmp_path / "out")
    with hold_target(tmp_path / "out" / "samples.json", "samples"):
        ended = torchrun("-m", "mmaudio.commands.main", "generate", *words, OMP_NUM_THREADS="1")
    assert ended.returncode == 1 and "exitcode  : 2" in ended.stderr
    assert ended.stderr.count("error: another job is writing samples in") == 1
