"""A folder of recordings to a table of clips, as the published system has it; and files that are not what they should be."""

import json
import os
import sys
import time
import tracemalloc

import numpy as np
import pytest
import soundfile

from mmaudio.base.errors import UserError
from mmaudio.clips import cutting as partition
from mmaudio.clips.clip_tables import AudioClip, read_clips, write_clips
from mmaudio.clips.cutting import Cutting, partition_folder
from tests.golden.fill import GOLDEN

CASES = json.loads((GOLDEN / "partition.json").read_text())


@pytest.mark.parametrize("num_workers", [1, 7])
def test_table_of_the_published_system(tmp_path, monkeypatch, num_workers):
    headers = {case["name"]: (case["num_samples"], case["sample_rate"]) for case in CASES}
    for name in headers:
        (tmp_path / f"{name}.flac").touch()
    monkeypatch.setattr(partition, "audio_header", lambda path: headers[path.stem])
    found = partition_folder(tmp_path, num_workers=num_workers)
    write_clips(tmp_path / "clips.tsv", found.clips)
    assert (tmp_path / "clips.tsv").read_bytes() == (GOLDEN / "partition_clips.tsv").read_bytes()
    assert found.num_files == len(CASES)
    assert [reject.id for reject in found.rejects] == [case["name"] for case in CASES if not case["segments"]]


def write_audio(path, seconds, rate_hz=16000, channels=1):
    soundfile.write(path, np.zeros((int(seconds * rate_hz), channels), np.float32), rate_hz, subtype="PCM_16")


def test_real_files_and_those_that_are_none(tmp_path):
    write_audio(tmp_path / "00008004.flac", 16.3)
    write_audio(tmp_path / "1e5.wav", 9, 8000, channels=2)
    write_audio(tmp_path / "a.b.wav", 8.1)
    write_audio(tmp_path / "short.flac", 8.0999)
    write_audio(tmp_path / "1e5.flac", 9)
    (tmp_path / "empty.flac").touch()
    (tmp_path / "noise.wav").write_bytes(b"RIFF and then nothing of the kind")
    write_audio(tmp_path / "LOUD.WAV", 9)
    (tmp_path / "notes.txt").write_text("not audio")
    (tmp_path / "folder.flac").mkdir()
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe.wav")
    os.symlink(tmp_path / "gone", tmp_path / "link.wav")
    (tmp_path / ".hidden").touch()
    found = partition_folder(tmp_path)
    assert [(row.id, row.name, row.start_sample, row.end_sample) for row in found.clips] == [
        ("00008004_0", "00008004", 0, 129600),
        ("00008004_1", "00008004", 131200, 260800),
        ("1e5_0", "1e5", 0, 129600),
        ("a.b_0", "a.b", 0, 129600),
    ]
    assert found.num_files == 13
    reasons = {reject.file: reject.reason for reject in found.rejects}
    assert {file: reasons[file].split()[0] for file in reasons} == {
        "1e5.wav": "1e5.flac",
        "empty.flac": "cannot",
        "noise.wav": "cannot",
        "LOUD.WAV": "not",
        "notes.txt": "not",
        "folder": "a",
        "folder.flac": "a",
        "link.wav": "cannot",
        "pipe.wav": "cannot",
        "short.flac": "129598",
    }
    assert reasons["short.flac"] == "129598 samples at 16000 Hz, 8.0999 s; want at least 8.1 s"
    assert reasons["1e5.wav"] == "1e5.flac has the same name and comes first; rename one of them"
    assert all(reject.stage == "partition" for reject in found.rejects)


def test_slice_of_the_sorted_listing(tmp_path, monkeypatch):
    monkeypatch.setattr(partition, "audio_header", lambda path: (129600, 16000))
    for name in "cabd":
        (tmp_path / f"{name}.wav").touch()
    names = lambda **span: [row.name for row in partition_folder(tmp_path, **span).clips]  # noqa: E731
    assert names() == list("abcd")
    assert names(start=1, end=3) == list("bc")
    assert names(start=2) == list("cd")
    assert names(end=0) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has file names that are no text")
def test_a_name_that_is_no_text_is_rejected(tmp_path):
    with open(os.fsencode(tmp_path) + b"/caf\xe9.wav", "wb"):
        pass
    found = partition_folder(tmp_path)
    assert [(reject.file, reject.reason) for reject in found.rejects] == [("caf\\udce9.wav", "its name is not UTF-8; rename it")]


def test_missing_folder(tmp_path):
    with pytest.raises(UserError, match="no folder of audio files at"):
        partition_folder(tmp_path / "gone")


def test_what_comes_out_does_not_depend_on_threads(tmp_path, monkeypatch):
    def header(path):
        time.sleep(0.003 * (int(path.stem) % 3))  # so that threads overtake each other
        return 16_000 * (int(path.stem) % 20), 16_000

    monkeypatch.setattr(partition, "audio_header", header)
    monkeypatch.setattr(partition, "_FILES_AT_ONCE", 3)
    for number in range(80):
        (tmp_path / f"{number:03d}.wav").touch()
    alone, together = (partition_folder(tmp_path, num_workers=num_workers) for num_workers in (1, 16))
    assert list(alone.clips) == list(together.clips) and len(alone.clips) == len(list(alone.clips))
    assert alone.rejects == together.rejects
    assert sorted(alone.clips, key=lambda clip: clip.id) == list(alone.clips)
    names = {file.name for file in alone.clips.files} | {reject.id for reject in alone.rejects}
    assert names == {f"{number:03d}" for number in range(80)} and alone.num_files == 80


def test_a_clip_shorter_than_a_sample_has_a_reason(tmp_path):
    write_audio(tmp_path / "a.wav", 1)
    (reject,) = partition_folder(tmp_path, cutting=Cutting(clip_length_s=1e-5)).rejects
    assert reject.reason == "a clip of 1e-05 s has no sample at 16000 Hz"


def test_many_files_take_little_memory_each(tmp_path, monkeypatch):
    """2 000 files of 5 clips: the plans are held, not the clips."""
    names = [f"{number:08d}.flac" for number in range(2_000)]
    monkeypatch.setattr(partition, "audio_header", lambda path: (10**6 + int(path.stem), 16_000))
    monkeypatch.setattr(os, "listdir", lambda folder: names)
    partition_folder(tmp_path)  # what is kept once for all
    tracemalloc.start()
    found = partition_folder(tmp_path)
    kept, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found.clips) == 10_000
    assert kept / 2_000 < 400 and most / 2_000 < 900


def script_clips(run_script, tmp_path, *words):
    ended = run_script("training/partition_clips.py", "--data_dir", tmp_path / "in", "--output_dir", tmp_path / "clips.tsv", *words)
    return ended, tmp_path / "clips.tsv"


@pytest.fixture
def recordings(tmp_path):
    (tmp_path / "in").mkdir()
    write_audio(tmp_path / "in" / "long.flac", 2.5)
    write_audio(tmp_path / "in" / "short.wav", 0.6)
    write_audio(tmp_path / "in" / "tiny.wav", 0.2)
    return tmp_path


def test_script_pads_the_tail(run_script, recordings):
    words = ("--clip_length", 1, "--tail", "pad", "--min_length", 0.5)
    ended, table = script_clips(run_script, recordings, *words)
    assert ended.code == 3, ended.err
    assert "4 clips from 3 files, 1 files left out" in ended.out
    assert table.read_text() == (
        "id\tname\tstart_sample\tend_sample\tpadded_samples\n"
        "long_0\tlong\t0\t16000\t0\nlong_1\tlong\t16000\t32000\t0\nlong_2\tlong\t32000\t48000\t8000\n"
        "short_0\tshort\t0\t16000\t6400\n"
    )
    assert read_clips(table)[2:] == [AudioClip("long_2", "long", 32000, 48000, 8000), AudioClip("short_0", "short", 0, 16000, 6400)]
    assert "3200 samples at 16000 Hz, 0.2000 s; want at least 0.5 s" in (recordings / "clips.failed.tsv").read_text()


def test_script_overlaps_clips_and_makes_as_many_as_fit(run_script, recordings):
    ended, table = script_clips(run_script, recordings, "--clip_length", 1, "--overlap", 0.75, "--max_clips", -1, "--num_workers", 3)
    assert ended.code == 3, ended.err
    assert [clip.start_sample for clip in read_clips(table)] == [0, 4000, 8000, 12000, 16000, 20000, 24000]
    assert table.read_text().startswith("id\tname\tstart_sample\tend_sample\n")


def test_script_tells_all_contradictions_and_writes_nothing(run_script, recordings):
    words = ("--clip_length", 1, "--overlap", 1, "--max_clips", 0, "--num_workers", 0, "--min_length", 0.5, "--tial", "pad")
    ended, table = script_clips(run_script, recordings, *words)
    assert ended.code == 2
    wanted = ("--overlap 1.0 has", "--max_clips is 0", "--num_workers is 0", "--min_length is 0.5, below", "(did you mean '--tail'?)")
    assert [part for part in wanted if part not in ended.err] == []
    assert len(ended.err.splitlines()) == 5
    assert not table.exists()
