"""An extraction killed at random, again and again, by one way or another, and gone on with by another number of processes."""

import random
import subprocess
import sys
import time

import pytest

from mmaudio.files.tables import write_table
from mmaudio.media.mp4 import write_video
from mmaudio.media.synthetic import draw_bounces, render_frames, render_sound
from tests.conftest import ROOT
from tests.extraction.killing import WAYS, kill, start, wait_until_gone

pytestmark = pytest.mark.slow
SCRIPT = "training/extract_video_training_latents.py"
NUM_KILLS = 20
NUM_VIDEOS = 120
LITE = ("--device", "cpu", "--backend", "lite", "--duration", 4.0)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """More work than a run that is killed gets done: the same few videos under many names, and some that are none."""
    folder = tmp_path_factory.mktemp("videos")
    for index in range(4):
        bounces = draw_bounces(11, "test", index, 4.2)
        write_video(folder / "clips" / f"{index}.mp4", iter(render_frames(bounces)), 25, render_sound(bounces, 22_050), 22_050)
    for index in range(4, NUM_VIDEOS):
        path = folder / "clips" / f"{index}.mp4"
        path.write_bytes(b"" if index % 17 == 0 else (folder / "clips" / f"{index % 4}.mp4").read_bytes())
    rows = [(str(index), f"caption {index % 7}") for index in range(NUM_VIDEOS)]
    write_table(folder / "set.tsv", ("id", "label"), rows)
    return folder


def words_for(videos, output):
    places = ("--latent_dir", output / "parts", "--output_dir", output, "--name", "store")
    return ["--data_dir", videos / "clips", "--tsv", videos / "set.tsv", *places, *LITE]


def content(output):
    return {str(path.relative_to(output)): path.read_bytes() for path in sorted(output.rglob("*")) if path.is_file()}


def rows_done(output):
    return sum(path.read_bytes().count(b"\n") for path in (output / "parts").glob("rows.*.jsonl"))


def test_the_store_is_that_of_an_undisturbed_run(videos, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    undisturbed = subprocess.run([sys.executable, SCRIPT, *map(str, words_for(videos, whole))], cwd=ROOT, check=False, timeout=600)
    assert undisturbed.returncode == 3  # some inputs are no videos
    draw, killed_so_far, log = random.Random(5), [], tmp_path / "log.txt"
    while len(killed_so_far) < NUM_KILLS:
        processes, way = len(killed_so_far) % 3 + 1, WAYS[len(killed_so_far) % 2 + len(killed_so_far) // 7 % 2]
        running = start(SCRIPT, words_for(videos, killed), processes, log)
        before, until = rows_done(killed), time.monotonic() + draw.uniform(1.0, 12.0)
        while time.monotonic() < until and rows_done(killed) < before + 2 and running.poll() is None:
            time.sleep(0.05)
        assert running.poll() is None, f"ended before it was killed {NUM_KILLS} times:\n{log.read_text()[-3000:]}"
        time.sleep(draw.uniform(0.0, 1.0))
        kill(running, way, str(killed), draw)
        killed_so_far.append((way, processes, rows_done(killed)))
    assert {way for way, *_ in killed_so_far} == set(WAYS)
    last = start(SCRIPT, words_for(videos, killed), 3, log)
    last.wait(600)
    wait_until_gone(last, str(killed))
    assert content(killed) == content(whole), killed_so_far
    assert sorted(path.name for path in killed.iterdir()) == [
        "store",
        "store.failed.tsv",
        "store.failed.tsv.mark.json",
        "store.json",
        "store.tsv",
    ]
