"""Two hundred damaged videos among twenty good ones, and damaged recordings: the good ones are used, the others told."""

import random
import re
import subprocess
import sys
import time
from fractions import Fraction

import av
import numpy as np
import pytest

from mmaudio.clips.clip_tables import read_clips, read_rejects
from mmaudio.files.tables import read_table, write_table
from mmaudio.media.mp4 import write_video
from mmaudio.store.reader import Store
from tests.conftest import ROOT, torchrun
from tests.extraction.fuzzing import SOUND_DAMAGES, VIDEO_DAMAGES, sound
from tests.media.made_videos import copy_packets

pytestmark = pytest.mark.slow
NUM_GOOD, NUM_DAMAGED = 20, 200
NUM_GOOD_SOUNDS, NUM_DAMAGED_SOUNDS = 10, 63
TIME_LIMIT_S = 150
LITE = ("--device", "cpu", "--backend", "lite", "--duration", 1.0)
VIDEO_SCRIPT = "training/extract_video_training_latents.py"
AUDIO_SCRIPT = "training/extract_audio_training_latents.py"


def run(script, *words):
    """Run a script by itself; one that hangs fails."""
    command = [sys.executable, script, *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=TIME_LIMIT_S)


def pictures(count, seed):
    """Noise that moves, 64 × 48: no two packets are alike, and none is small."""
    field = np.random.default_rng(seed).integers(0, 255, (48, 64 + count, 3), np.uint8)
    return [np.ascontiguousarray(field[:, index : index + 64]) for index in range(count)]


def write_jpegs(path, seed):
    """Pictures that each tell their size, beside sound as it is."""
    with av.open(str(path), "w", format="matroska") as container:
        picture, track = container.add_stream("mjpeg", rate=25), container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        picture.width, picture.height, picture.pix_fmt = 64, 48, "yuvj420p"
        for index, pixels in enumerate(pictures(30, seed)):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(picture.encode(frame))
        wave = np.random.default_rng(seed).integers(-9000, 9000, (1, 19_200), np.int16)
        frame = av.AudioFrame.from_ndarray(wave, format="s16", layout="mono")
        frame.sample_rate = 16_000
        container.mux([*track.encode(frame), *track.encode(None), *picture.encode(None)])


@pytest.fixture(scope="module")
def good_videos(tmp_path_factory):
    """{kind: [bytes, …]}: 1.2 s of each of a few."""
    folder, found = tmp_path_factory.mktemp("good"), {"mp4": [], "mkv": [], "jpegs": []}
    for seed in range(3):
        wave = np.random.default_rng(seed).uniform(-0.4, 0.4, 19_200)
        write_video(folder / "a.mp4", iter(pictures(30, seed)), 25, wave, 16_000)
        copy_packets(folder / "a.mp4", folder / "a.mkv", {}, format_name="matroska")
        write_jpegs(folder / "a.jpegs", seed)
        for kind, contents in found.items():
            contents.append((folder / f"a.{kind}").read_bytes())
    return found


def damaged(kinds, good, count):
    """{name: (damage, bytes)}: every kind in turn, each from its own random numbers."""
    made = {}
    for number in range(count):
        kind, draw = kinds[number % len(kinds)], random.Random(number)
        made[f"bad{number:03}"] = (kind, kind.make(draw.choice(good[kind.of]), draw))
    return made


@pytest.fixture(scope="module")
def folder(good_videos, tmp_path_factory):
    """Good and damaged videos side by side, in a table in which they are mixed."""
    folder = tmp_path_factory.mktemp("videos")
    (folder / "clips").mkdir()
    names, contents = [], [content for kind in good_videos.values() for content in kind]
    for number in range(NUM_GOOD):
        content = contents[number % len(contents)]
        (folder / "clips" / f"good{number:02}.mp4").write_bytes(content + b"left over" * (number % 7 == 3))
        names.append(f"good{number:02}")
    for name, (_, content) in damaged(VIDEO_DAMAGES, good_videos, NUM_DAMAGED).items():
        (folder / "clips" / f"{name}.mp4").write_bytes(content)
        names.append(name)
    random.Random(0).shuffle(names)
    write_table(folder / "set.tsv", ("id", "label"), [(name, f"caption of {name}") for name in names])
    return folder


def words_for(folder, output):
    places = ("--latent_dir", output / "parts", "--output_dir", output, "--name", "store")
    return ("--data_dir", folder / "clips", "--tsv", folder / "set.tsv", *places, *LITE)


def content_of(output):
    return {str(path.relative_to(output)): path.read_bytes() for path in sorted(output.rglob("*")) if path.is_file()}


def test_200_damaged_videos_among_20_good_ones(folder, good_videos, tmp_path):
    alone, shared, started_s = tmp_path / "alone", tmp_path / "shared", time.monotonic()
    ended = run(VIDEO_SCRIPT, *words_for(folder, alone))
    assert ended.returncode == 3, ended.stderr[-3000:]
    assert f"{NUM_GOOD} of {NUM_GOOD + NUM_DAMAGED} inputs kept, {NUM_DAMAGED} left out" in ended.stdout + ended.stderr
    store = Store.open(alone / "store.tsv", alone / "store")
    assert sorted(store.ids) == [f"good{number:02}" for number in range(NUM_GOOD)]
    assert store.captions == [f"caption of {name}" for name in store.ids]
    reasons = {reject.id: reject.reason for reject in read_rejects(alone / "store.failed.tsv")}
    made = damaged(VIDEO_DAMAGES, good_videos, NUM_DAMAGED)
    assert sorted(reasons) == sorted(made)
    untrue = {name: (kind.reason, reasons[name]) for name, (kind, _) in made.items() if not re.search(kind.reason, reasons[name])}
    assert not untrue
    ended = torchrun(VIDEO_SCRIPT, *words_for(folder, shared))
    assert ended.returncode == 1, ended.stderr[-3000:]
    assert content_of(shared) == content_of(alone)
    assert time.monotonic() - started_s < 2 * TIME_LIMIT_S


def test_damaged_recordings_are_told_by_one_of_two_scripts(tmp_path):
    good = {kind: [sound(kind.upper(), 2.5, seed=seed) for seed in range(3)] for kind in ("flac", "wav")}
    good["floats"] = [sound("WAV", 2.5, "FLOAT")]
    made, captions = damaged(SOUND_DAMAGES, good, NUM_DAMAGED_SOUNDS), []
    kinds = ["wav", "flac"] * (NUM_GOOD_SOUNDS // 2)
    files = {f"good{number}": (kind, good[kind][0]) for number, kind in enumerate(kinds)}
    files |= {name: ("flac" if kind.of == "flac" else "wav", content) for name, (kind, content) in made.items()}
    (tmp_path / "sounds").mkdir()
    for name, (suffix, content) in files.items():
        (tmp_path / "sounds" / f"{name}.{suffix}").write_bytes(content)
        captions.append((name, f"caption of {name}"))
    write_table(tmp_path / "captions.tsv", ("id", "caption"), captions)
    cutting = ("--clip_length", 1.1, "--max_clips", -1)
    ended = run("training/partition_clips.py", "--data_dir", tmp_path / "sounds", "--output_dir", tmp_path / "clips.tsv", *cutting)
    assert ended.returncode == 3, ended.stderr[-3000:]
    places = ("--latent_dir", tmp_path / "parts", "--output_dir", tmp_path / "stores" / "store")
    words = ("--data_dir", tmp_path / "sounds", "--captions_tsv", tmp_path / "captions.tsv", "--clips_tsv", tmp_path / "clips.tsv")
    ended = run(AUDIO_SCRIPT, *words, *places, *LITE)
    assert ended.returncode == 3, ended.stderr[-3000:]

    told = {reject.id: reject.reason for reject in read_rejects(tmp_path / "clips.failed.tsv")}
    later = {reject.id: reject.reason for reject in read_rejects(tmp_path / "stores" / "store.failed.tsv")}
    clips = read_clips(tmp_path / "clips.tsv")
    for clip in clips:
        if clip.name in made:
            told[clip.name] = later[clip.id]
    assert sorted(told) == sorted(made)
    assert not {name: (kind.reason, told[name]) for name, (kind, _) in made.items() if not re.search(kind.reason, told[name])}
    used = read_table(tmp_path / "stores" / "store.tsv").column("id")
    assert used == [clip.id for clip in clips if clip.name not in made]
    assert {name.rpartition("_")[0] for name in used} == {f"good{number}" for number in range(NUM_GOOD_SOUNDS)}
