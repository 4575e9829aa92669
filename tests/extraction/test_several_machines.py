"""Extraction across machines, and on a disk that is full: two launchers as two machines have them, a small file system of its own."""

import os
import shutil
import socket
import subprocess
import sys
from contextlib import contextmanager

import pytest

from mmaudio.base.specs import AudioSpec
from mmaudio.clips.clip_tables import read_rejects
from mmaudio.files.tables import read_table, write_table
from mmaudio.media.audio import write_flac
from mmaudio.media.mp4 import write_video
from mmaudio.media.synthetic import draw_bounces, render_frames, render_sound
from mmaudio.store.column_writer import column_bytes
from mmaudio.store.format import NULL_TEXT, TEXT_ROW, layout_of
from mmaudio.store.reader import Store
from tests.conftest import ROOT

pytestmark = pytest.mark.slow
VIDEO_SCRIPT = "training/extract_video_training_latents.py"
AUDIO_SCRIPT = "training/extract_audio_training_latents.py"
LITE = ("--device", "cpu", "--backend", "lite", "--duration", 1.0)
NUM_FILES, NUM_CAPTIONS = 9, 4


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    for index in range(NUM_FILES):
        bounces = draw_bounces(11, "test", index, 1.2)
        write_video(folder / "videos" / f"v{index}.mp4", iter(render_frames(bounces)), 25, render_sound(bounces, 22_050), 22_050)
        write_flac(folder / "sounds" / f"s{index}.flac", render_sound(draw_bounces(5, "sound", index, 3.4), 16_000), 16_000)
    (folder / "videos" / "v4.mp4").write_bytes(b"no video")
    write_table(folder / "videos.tsv", ("id", "label"), [(f"v{index}", f"caption {index % NUM_CAPTIONS}") for index in range(NUM_FILES)])
    write_table(folder / "sounds.tsv", ("id", "caption"), [(f"s{index}", f"caption {index % NUM_CAPTIONS}") for index in range(NUM_FILES)])
    cut = ("--data_dir", folder / "sounds", "--output_dir", folder / "clips.tsv", "--clip_length", 1.1)
    assert run("training/partition_clips.py", *cut).returncode == 0
    return folder


@pytest.fixture(scope="module")
def whole(media, tmp_path_factory):
    """The store of all videos, made by one process that nothing disturbed."""
    output = tmp_path_factory.mktemp("whole")
    assert run(*video_words(media, output)).returncode == 3
    return output


def run(*words):
    command = [sys.executable, *(str(word) for word in words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)


def video_words(media, output):
    places = ("--latent_dir", output / "parts", "--output_dir", output, "--name", "store")
    return [VIDEO_SCRIPT, "--data_dir", media / "videos", "--tsv", media / "videos.tsv", *places, *LITE]


def audio_words(media, output):
    tables = ("--captions_tsv", media / "sounds.tsv", "--clips_tsv", media / "clips.tsv")
    places = ("--latent_dir", output / "parts", "--output_dir", output / "store")
    return [AUDIO_SCRIPT, "--data_dir", media / "sounds", *tables, *places, *LITE]


def content(output):
    return {str(path.relative_to(output)): path.read_bytes() for path in sorted(output.rglob("*")) if path.is_file()}


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.mark.parametrize("words_for", [video_words, audio_words])
def test_two_machines_give_the_store_of_one_process(media, tmp_path, words_for):
    alone, together = tmp_path / "alone", tmp_path / "together"
    assert run(*words_for(media, alone)).returncode == (3 if words_for is video_words else 0)
    meeting = ("--nnodes=2", "--rdzv_backend=c10d", f"--rdzv_endpoint=127.0.0.1:{free_port()}", "--rdzv_id=a")
    words = [str(word) for word in words_for(media, together)]
    launchers = [
        subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", *meeting, "--nproc_per_node=1", *words],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(2)
    ]
    said = [launcher.communicate(timeout=300)[0] for launcher in launchers]
    assert content(together) == content(alone), said
    kept = [line for output in said for line in output.splitlines() if "inputs kept" in line]
    assert len(kept) == 1, "the process of rank 0 tells the outcome, and no other"


@contextmanager
def small_disk(folder, megabytes):
    """A file system of so many megabytes at a folder."""
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)], capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip("only a user who may mount file systems can fill one without harm")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def one_sentence(ended):
    errors = [line for line in ended.stderr.splitlines() if line.startswith("error: ")]
    return len(errors) == 1 and "Traceback" not in ended.stderr and "room" in errors[0]


def free_bytes(folder):
    return os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize


def test_a_disk_without_room_is_told_before_any_work(media, whole, tmp_path):
    with small_disk(tmp_path / "disk", 8) as disk:
        filler = disk / "filler"
        filler.write_bytes(bytes((8 << 20) - (1 << 19)))
        ended = run(*video_words(media, disk))
        assert (ended.returncode, one_sentence(ended)) == (2, True), ended.stderr
        assert "extract video" not in ended.stdout, "nothing was encoded"
        filler.unlink()
        assert run(*video_words(media, disk)).returncode == 3
        assert content(disk) == content(whole)


def test_a_disk_that_fills_up_halfway_costs_nothing_but_time(media, whole, tmp_path):
    """The columns fit; what is left for progress logs, closing gaps and tables is little, at each amount another step fails."""
    layout = layout_of("compact", "video", AudioSpec("16k", 1.0))
    shapes = layout.shapes(NUM_FILES, NUM_CAPTIONS)
    reserved = sum(column_bytes(shape, layout.dtypes[name]) for name, shape in shapes.items() if name not in (TEXT_ROW, NULL_TEXT))
    told = []
    for slack_kb in (30, 40, 80, 120, 400):
        with small_disk(tmp_path / f"disk{slack_kb}", 12) as disk:
            filler = disk / "filler"
            filler.write_bytes(bytes(free_bytes(disk) - reserved - slack_kb * 1024))
            ended = run(*video_words(media, disk))
            if ended.returncode != 3:
                told.append(ended.stderr)
                assert (ended.returncode, one_sentence(ended)) == (2, True), ended.stderr
                assert not (disk / "store.json").exists() or Store.open(disk / "store.tsv", disk / "store").num_rows == NUM_FILES - 1
            filler.unlink()
            assert ended.returncode == 3 or run(*video_words(media, disk)).returncode == 3
            assert content(disk) == content(whole)
    assert len(told) >= 3, told


def test_a_disk_that_fills_up_while_rows_are_added_leaves_the_store_as_it_was(media, whole, tmp_path):
    table = read_table(media / "videos.tsv")
    with small_disk(tmp_path / "disk", 12) as disk:
        shutil.copytree(media / "videos", disk / "videos", symlinks=True)
        write_table(disk / "videos.tsv", table.columns, table.rows[:3])
        assert run(*video_words(disk, disk)).returncode == 0
        before = content(disk)
        shutil.copy(media / "videos.tsv", disk / "videos.tsv")
        filler = disk / "filler"
        filler.write_bytes(bytes(free_bytes(disk) - (64 << 10)))
        ended = run(*video_words(disk, disk), "--append", "--latent_dir", tmp_path / "parts")  # the work fits elsewhere
        assert (ended.returncode, one_sentence(ended)) == (2, True), ended.stderr
        assert Store.open(disk / "store.tsv", disk / "store").num_rows == 3
        after = content(disk)
        assert all(after[name][: len(data)] == data for name, data in before.items() if name.startswith("store"))
        filler.unlink()
        assert run(*video_words(disk, disk), "--append", "--latent_dir", tmp_path / "parts").returncode == 3
        assert {path.name: path.read_bytes() for path in (disk / "store").iterdir()} == {
            path.name: path.read_bytes() for path in (whole / "store").iterdir()
        }
        assert [reject.id for reject in read_rejects(disk / "store.failed.tsv")] == ["v4"]
