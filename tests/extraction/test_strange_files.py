"""Things by the name of media that are no files, and files by names that mean something elsewhere: through the scripts."""

import os
import socket

import numpy as np
import pytest

from mmaudio.clips.clip_tables import read_rejects
from mmaudio.features.backend import Backend
from mmaudio.files.tables import read_table, write_table
from mmaudio.media.audio import write_flac
from tests.media.made_videos import make_video

VIDEO_SCRIPT = "training/extract_video_training_latents.py"
AUDIO_SCRIPT = "training/extract_audio_training_latents.py"
LITE = ("--device", "cpu", "--backend", "lite", "--duration", 0.64)
NAMES = ("two\nlines", "a\ttab", "\"both\" 'quotes'", "-rf", "--tsv", "🎈é", "%03d", "a:b", "#?&", " ", "x" * 250, "é" * 125)
LEFT_OUT = {
    "folder": "no file at ",
    "pipe": "not a regular file",
    "socket": "not a regular file",
    "loop": "Too many levels of symbolic links",
    "dangling": "no file at ",
    "gone": "no file at ",
}
WAVE = np.random.default_rng(0).uniform(-0.5, 0.5, 16_000)


def make_things(folder, suffix, write):
    """One of each thing that is left out, and a good file that a link leads to."""
    path = {name: folder / f"{name}{suffix}" for name in LEFT_OUT}
    path["folder"].mkdir(parents=True)
    os.mkfifo(path["pipe"])
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(os.path.relpath(path["socket"]))  # an address is short
    path["loop"].symlink_to(path["loop"].name)
    path["dangling"].symlink_to("nowhere")
    write(path["gone"])
    write(folder / f"good{suffix}")
    (folder / f"link{suffix}").symlink_to(f"good{suffix}")


@pytest.fixture
def goes_missing(monkeypatch):
    """A function that has these files be removed once everything was listed, before anything is read."""

    def use(*paths):
        load = Backend.load

        def remove(*words):
            for path in paths:
                path.unlink()
            return load(*words)

        monkeypatch.setattr(Backend, "load", remove)

    return use


def extract_videos(run_script, folder, ids):
    write_table(folder / "set.tsv", ("id", "label"), [(name, "a caption") for name in ids])
    places = ("--latent_dir", folder / "parts", "--output_dir", folder / "out", "--name", "store")
    return run_script(VIDEO_SCRIPT, "--data_dir", folder / "clips", "--tsv", folder / "set.tsv", *places, *LITE)


def extract_sounds(run_script, folder, ids):
    write_table(folder / "captions.tsv", ("id", "caption"), [(name, "a caption") for name in ids])
    places = ("--latent_dir", folder / "parts", "--output_dir", folder / "out" / "store", "--clips_tsv", folder / "clips.tsv")
    return run_script(AUDIO_SCRIPT, "--data_dir", folder / "clips", "--captions_tsv", folder / "captions.tsv", *places, *LITE)


def partition(run_script, folder):
    places = ("--data_dir", folder / "clips", "--output_dir", folder / "clips.tsv")
    return run_script("training/partition_clips.py", *places, "--clip_length", 0.7, "--max_clips", 1)


def told(path, wanted):
    """Whether exactly these are left out, each for its reason."""
    reasons = {reject.id: reject.reason for reject in read_rejects(path)}
    assert set(reasons) == set(wanted)
    assert {name: reasons[name] for name, part in wanted.items() if part not in reasons[name]} == {}


def test_videos_that_are_no_files_are_left_out_without_waiting(run_script, tmp_path, goes_missing):
    make_things(tmp_path / "clips", ".mp4", lambda path: make_video(path, 0.72, wave=WAVE))
    goes_missing(tmp_path / "clips" / "gone.mp4")
    ended = extract_videos(run_script, tmp_path, [*LEFT_OUT, "good", "link"])
    assert ended.code == 3, ended.err
    assert read_table(tmp_path / "out" / "store.tsv").column("id") == ["good", "link"]
    told(tmp_path / "out" / "store.failed.tsv", LEFT_OUT)


def test_recordings_that_are_no_files_are_left_out_without_waiting(run_script, tmp_path, goes_missing):
    make_things(tmp_path / "clips", ".flac", lambda path: write_flac(path, WAVE, 16_000))
    assert partition(run_script, tmp_path).code == 3
    told(tmp_path / "clips.failed.tsv", {name: why for name, why in LEFT_OUT.items() if name != "gone"} | {"folder": "a folder"})
    goes_missing(tmp_path / "clips" / "gone.flac")
    ended = extract_sounds(run_script, tmp_path, ["gone", "good", "link"])
    assert ended.code == 3, ended.err
    assert read_table(tmp_path / "out" / "store.tsv").column("id") == ["good_0", "link_0"]
    told(tmp_path / "out" / "store.failed.tsv", {"gone_0": "no file at "})


def test_a_recording_that_becomes_a_pipe_is_left_out(run_script, tmp_path):
    for name in ("a", "b"):
        write_flac(tmp_path / "clips" / f"{name}.flac", WAVE, 16_000)
    assert partition(run_script, tmp_path).code == 0
    (tmp_path / "clips" / "a.flac").unlink()
    os.mkfifo(tmp_path / "clips" / "a.flac")
    assert extract_sounds(run_script, tmp_path, ["a", "b"]).code == 3
    told(tmp_path / "out" / "store.failed.tsv", {"a_0": "not a regular file"})


def test_videos_by_any_name(run_script, tmp_path):
    content = make_video(tmp_path / "a.mp4", 0.72, wave=WAVE).read_bytes()
    (tmp_path / "clips").mkdir()
    for name in NAMES:
        (tmp_path / "clips" / f"{name}.mp4").write_bytes(content)
    ended = extract_videos(run_script, tmp_path, NAMES)
    assert ended.code == 0, ended.err
    assert read_table(tmp_path / "out" / "store.tsv").column("id") == list(NAMES)


def test_recordings_by_any_name(run_script, tmp_path):
    write_flac(tmp_path / "a.flac", WAVE, 16_000)
    (tmp_path / "clips").mkdir()
    for name in NAMES:
        (tmp_path / "clips" / f"{name}.flac").write_bytes((tmp_path / "a.flac").read_bytes())
    assert partition(run_script, tmp_path).code == 0
    ended = extract_sounds(run_script, tmp_path, NAMES)
    assert ended.code == 0, ended.err
    assert read_table(tmp_path / "out" / "store.tsv").column("id") == sorted(f"{name}_0" for name in NAMES)


def test_damaged_files_by_any_name_are_told_by_it(run_script, tmp_path):
    for suffix in (".mp4", ".flac"):
        folder = tmp_path / suffix
        (folder / "clips").mkdir(parents=True)
        for name in NAMES:
            (folder / "clips" / f"{name}{suffix}").write_bytes(b"no media, but long enough")
        (folder / "clips" / f"good{suffix}").touch()
    write_flac(tmp_path / ".flac" / "clips" / "good.flac", WAVE, 16_000)
    make_video(tmp_path / ".mp4" / "clips" / "good.mp4", 0.72, wave=WAVE)
    assert partition(run_script, tmp_path / ".flac").code == 3
    told(tmp_path / ".flac" / "clips.failed.tsv", dict.fromkeys(NAMES, "not readable as audio"))
    assert extract_videos(run_script, tmp_path / ".mp4", [*NAMES, "good"]).code == 3
    told(tmp_path / ".mp4" / "out" / "store.failed.tsv", dict.fromkeys(NAMES, "not a media file"))
