"""Where long files are cut, against the published system's numbers; and files that are not what they should be."""

import itertools
import json
import os
import sys

import numpy as np
import pytest
import soundfile

from mmaudio.base.errors import UserError
from mmaudio.clips import partition
from mmaudio.clips.partition import partition_folder, plan_clips
from mmaudio.clips.table import write_clips
from tests.golden.fill import GOLDEN

CASES = json.loads((GOLDEN / "partition.json").read_text())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_plan_of_the_published_system(case):
    assert plan_clips(case["num_samples"], case["sample_rate"]) == [(start, end) for _, start, end in case["segments"]]


def test_table_of_the_published_system(tmp_path, monkeypatch):
    headers = {case["name"]: (case["num_samples"], case["sample_rate"]) for case in CASES}
    for name in headers:
        (tmp_path / f"{name}.flac").touch()
    monkeypatch.setattr(partition, "audio_header", lambda path: headers[path.stem])
    found = partition_folder(tmp_path)
    write_clips(tmp_path / "clips.tsv", found.rows)
    assert (tmp_path / "clips.tsv").read_bytes() == (GOLDEN / "partition_clips.tsv").read_bytes()
    assert found.num_files == len(CASES)
    assert [reject.id for reject in found.rejects] == [case["name"] for case in CASES if not case["segments"]]


@pytest.mark.parametrize("length_s", [0.7, 1.25, 8.1, 30.3])
@pytest.mark.parametrize("rate_hz", [8000, 11025, 44100])
def test_plan_holds_what_it_promises(length_s, rate_hz):
    segment = int(length_s * rate_hz + 1e-6)
    for num_samples in (0, segment - 1, segment + 1, 3 * segment - 1, 3 * segment, 17 * segment + 5):
        clips = plan_clips(num_samples, rate_hz, clip_length_s=length_s, max_clips=5)
        assert len(clips) == min(5, num_samples // segment)
        assert all(end - start == segment for start, end in clips)
        assert all(one[1] <= other[0] for one, other in itertools.pairwise(clips))
        if clips:
            assert clips[0][0] == 0
            assert num_samples - clips[-1][1] <= (3 if len(clips) > 1 else num_samples)


def test_one_clip_at_most():
    assert plan_clips(10**6, 16000, max_clips=1) == [(0, 129600)]


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
    (tmp_path / ".hidden").touch()
    found = partition_folder(tmp_path)
    assert [(row.id, row.name, row.start_sample, row.end_sample) for row in found.rows] == [
        ("00008004_0", "00008004", 0, 129600),
        ("00008004_1", "00008004", 131200, 260800),
        ("1e5_0", "1e5", 0, 129600),
        ("a.b_0", "a.b", 0, 129600),
    ]
    assert found.num_files == 10
    reasons = {reject.file: reject.reason for reject in found.rejects}
    assert {file: reasons[file].split()[0] for file in reasons} == {
        "1e5.wav": "1e5.flac",
        "empty.flac": "cannot",
        "noise.wav": "cannot",
        "LOUD.WAV": "not",
        "notes.txt": "not",
        "folder.flac": "a",
        "short.flac": "129598",
    }
    assert all(reject.stage == "partition" for reject in found.rejects)


def test_slice_of_the_sorted_listing(tmp_path, monkeypatch):
    monkeypatch.setattr(partition, "audio_header", lambda path: (129600, 16000))
    for name in "cabd":
        (tmp_path / f"{name}.wav").touch()
    names = lambda **span: [row.name for row in partition_folder(tmp_path, **span).rows]  # noqa: E731
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
