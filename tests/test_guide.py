"""The published training guide's commands, as a user types them, in an empty folder."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mmaudio.files.tables import read_table
from mmaudio.store.reader import Store
from tests.conftest import ROOT, SHARED, torchrun

pytestmark = pytest.mark.slow
LITE = ("--device", "cpu", "--backend", "lite")
ON_CPU = ("device=cpu", "backend=lite")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where the first three commands were run, with one process each."""
    folder = tmp_path_factory.mktemp("guide")
    run(folder, "training/partition_clips.py")
    for kind in ("audio", "video"):
        ended = torchrun(ROOT / f"training/extract_{kind}_training_latents.py", *LITE, processes=1, cwd=folder)
        assert ended.returncode == 0, ended.stderr
    return folder


def run(folder: Path, script: str, *words: str) -> None:
    ended = subprocess.run([sys.executable, str(ROOT / script), *words], cwd=folder, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def stores(folder: Path) -> dict[str, bytes]:
    memmap = folder / "training/example_output/memmap"
    return {str(path.relative_to(memmap)): path.read_bytes() for path in sorted(memmap.rglob("*")) if path.is_file()}


def test_partition_and_extraction(folder):
    assert len(read_table(folder / "training/example_output/clips.tsv").rows) == 6
    memmap = folder / "training/example_output/memmap"
    video = Store.open(memmap / "vgg-example.tsv", memmap / "vgg-example")
    assert (video.ids, video.num_latents, video.num_clip, video.num_sync) == (["0B4dYTMsgHA_000130", "F8Zt3mYlOqU_000094"], 250, 64, 192)
    audio = Store.open(memmap / "audio-example.tsv", memmap / "audio-example")
    assert audio.ids == [f"{name}_{i}" for name in ("00008004", "00008009") for i in range(3)]


def test_two_processes_extract_the_same_bytes(folder):
    before = stores(folder)
    for kind in ("audio", "video"):
        ended = torchrun(ROOT / f"training/extract_{kind}_training_latents.py", *LITE, "--batch_size", "1", processes=2, cwd=folder)
        assert ended.returncode == 0, ended.stderr
    after = stores(folder)
    assert after.keys() == before.keys()
    assert [name for name in before if after[name] != before[name]] == []


def test_debug_run(folder):
    words = ("exp_id=debug", "compile=False", "debug=True", "example_train=True", "batch_size=1", "model=nano_16k", *ON_CPU)
    ended = torchrun(ROOT / "train.py", *words, processes=1, cwd=folder, OMP_NUM_THREADS="4")
    assert ended.returncode == 0, ended.stderr
    lines = [json.loads(line) for line in (folder / "output/debug/metrics.jsonl").read_text().splitlines()]
    assert [line["steps_done"] for line in lines if "train/loss" in line] == list(range(1, 21))


def test_two_processes_train(folder):
    words = ("exp_id=exp_1", "model=nano_16k", "example_train=True", "num_iterations=2", "batch_size=2", *ON_CPU)
    ended = torchrun(ROOT / "train.py", *words, processes=2, cwd=folder, OMP_NUM_THREADS="4")
    assert ended.returncode == 0, ended.stderr
    assert (folder / "output/exp_1/exp_1_ema_final.pth").is_file()
    assert (folder / "output/exp_1/exp_1_ckpt_last.pth").is_file()


def test_without_its_data_the_last_command_says_what_is_missing(folder):
    ended = torchrun(ROOT / "train.py", "exp_id=exp_2", "model=small_16k", *ON_CPU, processes=2, cwd=folder)
    assert ended.returncode != 0
    said = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    assert len(said) == 1
    assert "ExtractedVGG" in said[0]
    assert "extract_video_training_latents.py" in said[0]
    assert not (folder / "output/exp_2").exists()


@pytest.mark.parametrize("mode", ["16k", "44k"])
def test_real_media(tmp_path, mode):
    media = SHARED / "media"
    if not media.is_dir():
        pytest.skip("the real recordings lie outside the repository")
    for kind, suffix, caption in (("video", ".mp4", "label"), ("audio", ".flac", "caption")):
        (file,) = media.glob(f"*{suffix}")
        (tmp_path / kind).mkdir()
        (tmp_path / kind / file.name).write_bytes(file.read_bytes())
        (tmp_path / f"{kind}.tsv").write_text(f"id\t{caption}\n{file.stem}\tsomething heard\n")
    run(tmp_path, "training/partition_clips.py", "--data_dir", "audio", "--output_dir", "clips.tsv")
    common = (*LITE, "--mode", mode)
    places = ("--latent_dir", "parts", "--output_dir")
    run(tmp_path, "training/extract_audio_training_latents.py", *common, "--data_dir", "audio", "--captions_tsv", "audio.tsv",
        "--clips_tsv", "clips.tsv", *places, "stores/sounds")  # fmt: skip
    run(tmp_path, "training/extract_video_training_latents.py", *common, "--data_dir", "video", "--tsv", "video.tsv", "--name", "videos",
        *places, "stores")  # fmt: skip
    sources = [
        f"data.{name}.{key}=stores/{name}{end}" for name in ("videos", "sounds") for key, end in (("tsv", ".tsv"), ("memmap_dir", ""))
    ]
    lists = ("data.train=[videos,sounds]", "data.val=[videos]", "data.test=[videos]")
    run(tmp_path, "train.py", "exp_id=real", f"model=nano_{mode}", *ON_CPU, *sources, *lists, "batch_size=2", "num_iterations=3")
    weights = ("--weights", "output/real/real_ema_final.pth", "--device", "cpu", "--num_steps", "2")
    command = [
        sys.executable,
        "-m",
        "mmaudio.commands.main",
        "generate",
        *weights,
        "--video",
        "video",
        "--prompt",
        "a sound",
        "--output",
        "out",
    ]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert len(list((tmp_path / "out").iterdir())) == 2
    run(tmp_path, "evaluate.py", "exp_id=real", "reference=video", "device=cpu")
    assert (tmp_path / "output/real/test-output_metrics.json").is_file()
