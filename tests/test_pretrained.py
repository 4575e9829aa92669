"""Every stage with the pretrained backend: weight files of the true layout, served on this machine, fetched, verified and loaded.

The VAE, the vocoder and Synchformer have their full size; CLIP is a small one of the published widths. Clips last one second.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from mmaudio.base.specs import AudioSpec
from mmaudio.codec import MelSpectrogram, load_vae
from mmaudio.encoders import load_clip, load_synchformer
from mmaudio.files.tensor_files import read_state_dict
from mmaudio.media.audio import read_audio
from mmaudio.media.video import read_video
from mmaudio.store.reader import Store
from tests.conftest import ROOT
from tests.encoders.sharp import filled, manifest
from tests.encoders.small_clip import write_small_clip
from tests.golden.codec.published import vae_tensors, vocoder_tensors
from tests.weights.hub_server import HubServer, serve

pytestmark = pytest.mark.slow
SPEC = AudioSpec("16k", 1.0)
PLACES = {"vae_16k": "test/vae@main", "vocoder_16k": "test/vocoder@main", "synchformer": "test/sync@main", "clip": "test/clip@main"}
VIDEO_ID = "0B4dYTMsgHA_000130"


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """The four weights, as published but for their numbers."""
    folder = tmp_path_factory.mktemp("published")
    torch.save(vae_tensors("16k"), folder / "v1-16.pth")
    torch.save({"generator": vocoder_tensors("16k")}, folder / "best_netG.pt")
    extra = {"afeat_extractor.any": torch.zeros(2), "transformer.any": torch.zeros(2)}  # the file's other groups
    torch.save(filled(manifest("synchformer_visual"), "base") | extra, folder / "synchformer_state_dict.pth")
    write_small_clip(folder / "clip")
    return folder


@pytest.fixture(scope="module")
def hub(files):
    with serve() as server:
        server.add_file("test/vae", "v1-16.pth", files / "v1-16.pth")
        server.add_file("test/vocoder", "best_netG.pt", files / "best_netG.pt")
        server.add_file("test/sync", "synchformer_state_dict.pth", files / "synchformer_state_dict.pth")
        for path in (files / "clip").iterdir():
            server.add_file("test/clip", path.name, path)
        yield server


@pytest.fixture(scope="module")
def world(tmp_path_factory, hub: HubServer) -> Path:
    """The guide's example extracted: the recordings by two processes at once, the videos by one."""
    folder = tmp_path_factory.mktemp("pretrained")
    run(folder, hub, [sys.executable, ROOT / "training/partition_clips.py"])
    extract = (*pretrained("vae_16k", "clip"), "--device", "cpu", "--duration", "1")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    run(folder, hub, [*torchrun, ROOT / "training/extract_audio_training_latents.py", *extract])
    extract = (*pretrained("vae_16k", "clip", "synchformer"), "--device", "cpu", "--duration", "1")
    run(folder, hub, [sys.executable, ROOT / "training/extract_video_training_latents.py", *extract])
    return folder


def pretrained(*names: str) -> list[str]:
    return [word for name in names for word in ("--pretrained", f"{name}={PLACES[name]}")]


def environment(folder: Path, hub: HubServer) -> dict[str, str]:
    return {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "home"), "NO_PROXY": "127.0.0.1", "OMP_NUM_THREADS": "1"}


def run(folder: Path, hub: HubServer, words: list, code: int = 0) -> "subprocess.CompletedProcess[str]":
    ended = subprocess.run(
        [str(w) for w in words], cwd=folder, env=environment(folder, hub), capture_output=True, text=True, check=False, timeout=900
    )
    assert ended.returncode == code, ended.stdout[-2000:] + ended.stderr[-4000:]
    return ended


def memmap(folder: Path, name: str) -> Store:
    stores = folder / "training/example_output/memmap"
    return Store.open(stores / f"{name}.tsv", stores / name)


def test_each_file_is_fetched_once_whoever_asks(world, hub):
    for file in ("v1-16.pth", "synchformer_state_dict.pth", "open_clip_pytorch_model.bin"):
        assert len([asked for asked in hub.asked(file) if asked.method == "GET"]) == 1
    assert not [asked for asked in hub.asked("best_netG.pt") if asked.method == "GET"]  # extraction needs no vocoder


def test_features_are_those_of_the_networks(world, files):
    store = memmap(world, "vgg-example")
    row = store.gather(torch.tensor([store.ids.index(VIDEO_ID)]))
    media = read_video(world / f"training/example_videos/{VIDEO_ID}.mp4", SPEC, with_sound=True)
    clip = load_clip(files / "clip")
    with torch.inference_mode():
        seen = clip.encode_images(media.clip_u8.float() / 255)
        moves = load_synchformer(read_state_dict(files / "synchformer_state_dict.pth"))(media.sync_u8[None].float() / 127.5 - 1)
        mean, std = load_vae(read_state_dict(files / "v1-16.pth"), "16k").encode(MelSpectrogram("16k")(media.wave[None]))
        said = clip.encode_text([store.captions[store.ids.index(VIDEO_ID)], ""])
    for name, want in {"mean": mean.mT, "std": std.mT, "clip_features": seen[None], "sync_features": moves}.items():
        tolerance = 1e-5 if name in ("mean", "std") else 2**-8  # features are kept in bfloat16
        assert (row[name].float() - want).abs().max() <= tolerance * want.abs().max()
    texts = torch.stack([store.text(torch.tensor([store.ids.index(VIDEO_ID)]))[0], store.null_text()]).float()
    assert (texts - said).abs().max() <= 2**-8 * said.abs().max()
    assert set(store.record.weights) == {"vae_16k", "synchformer", "clip"}
    assert all(value.startswith("sha256:") for value in store.record.weights.values())


def test_training_and_generation(world, hub):
    words = ["exp_id=tuned", "model=nano_16k", "duration_s=1", "device=cpu", "example_train=True", "num_iterations=2", "batch_size=2"]
    words += [f"vae_16k_ckpt={PLACES['vae_16k']}", f"bigvgan_vocoder_ckpt={PLACES['vocoder_16k']}"]
    run(world, hub, [sys.executable, ROOT / "train.py", *words])
    weights = world / "output/tuned/tuned_ema_final.pth"
    assert json.loads((world / "output/tuned/tuned_ema_final.pth.json").read_text())["backend"] == "pretrained"
    video = world / f"training/example_videos/{VIDEO_ID}.mp4"
    generate = [sys.executable, "-m", "mmaudio.commands.main", "generate", "--weights", weights, "--device", "cpu", "--num_steps", "2"]
    run(world, hub, [*generate, *pretrained(*PLACES), "--video", video, "--prompt", "a dog barks", "--output", "out"])
    sound = read_audio(world / f"out/{VIDEO_ID}.flac")
    assert (sound.rate_hz, len(sound.wave)) == (16_000, SPEC.num_samples)
    assert (world / f"out/{VIDEO_ID}.mp4").stat().st_size > 10_000
    run(world, hub, [sys.executable, ROOT / "evaluate.py", "exp_id=tuned", "device=cpu"])  # from where the run's settings say
    sampled = sorted(path.name for path in (world / "output/tuned/example-sampled").glob("*.flac"))  # the source's tag
    assert sampled == [f"{name}.flac" for name in sorted(memmap(world, "vgg-example").ids)]


def test_a_killed_extraction_ends_with_the_same_store(world, hub):
    script, places = ROOT / "training/extract_audio_training_latents.py", ("--latent_dir", "killed", "--output_dir", "again/audio-example")
    words = [script, *pretrained("vae_16k", "clip"), "--device", "cpu", "--duration", "1", *places]
    running = subprocess.Popen([sys.executable, *map(str, words)], cwd=world, env=environment(world, hub))
    until = time.monotonic() + 300
    while not list((world / "killed").glob("rows.*.jsonl")) and running.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    running.kill()
    running.wait()
    assert list((world / "killed").glob("rows.*.jsonl")), "it was killed with some rows done"
    run(world, hub, [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", *words])
    stores = world / "training/example_output/memmap"
    again, whole = (Store.open(folder.with_suffix(".tsv"), folder) for folder in (world / "again/audio-example", stores / "audio-example"))
    assert (again.ids, again.captions) == (whole.ids, whole.captions)
    rows = torch.arange(whole.num_rows)
    for name, want in whole.gather(rows).items():
        assert (again.gather(rows)[name] - want).abs().max() <= 1e-5 * want.abs().max()
    assert (again.text(rows).float() - whole.text(rows).float()).abs().max() <= 2**-8 * whole.text(rows).float().abs().max()


def test_another_clip_cannot_go_on_with_the_same_parts(world, hub):
    """A latent_dir of other weights is refused by name."""
    (world / "parts").mkdir()
    text = json.dumps({"kind": "audio", "weights": {"vae_16k": "sha256:other"}})
    (world / "parts/manifest.json").write_text(text)
    extract = (*pretrained("vae_16k", "clip"), "--device", "cpu", "--duration", "1", "--latent_dir", "parts")
    ended = run(world, hub, [sys.executable, ROOT / "training/extract_audio_training_latents.py", *extract], code=2)
    assert "parts holds the work of another extraction" in ended.stderr


def test_without_network_and_weights_one_sentence_says_how_to_get_them(world, hub):
    elsewhere = ("--output_dir", "elsewhere", "--latent_dir", "elsewhere-parts")  # the default place has a store of another length
    command = [sys.executable, ROOT / "training/extract_audio_training_latents.py", "--device", "cpu", *elsewhere]
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    ended = subprocess.run([str(word) for word in command], cwd=world, env=offline, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    errors = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "v1-16.pth" in errors[0] or "open_clip" in errors[0]
    assert "mmaudio weights fetch" in errors[0]
    assert "Traceback" not in ended.stderr
