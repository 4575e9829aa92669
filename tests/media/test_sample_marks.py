"""The mark of a sample: it comes back from a sound and from every kind of video, and what carries none is foreign."""

import os

import av
import numpy as np
import pytest
from PIL import Image

from mmaudio.media.audio import write_flac
from mmaudio.media.images import read_still, write_still_video
from mmaudio.media.mp4 import is_whole_mp4, mp4_comment, mux_sound, write_video
from mmaudio.media.reencoding import reencode_with_sound
from mmaudio.media.sample_marks import is_foreign_sample, read_sample_mark, sample_mark
from tests.media.made_videos import make_video

RATE_HZ = 16_000
WAVE = 0.3 * np.sin(np.arange(RATE_HZ) / 9).astype(np.float32)
IDS = ["rain", "a/b", "🎈\n\"'<>&\\", "x" * 3000, "\udc80"]


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    make_video(folder / "in.mp4", 1.0)
    Image.new("RGB", (20, 16), (9, 80, 200)).save(folder / "in.png")
    return folder


def write(kind, sources, path, comment):
    if kind == "flac":
        write_flac(path, WAVE, RATE_HZ, comment)
    elif kind == "video":
        write_video(path, [np.full((16, 16, 3), 9 * level, np.uint8) for level in range(10)], 10, WAVE, RATE_HZ, comment)
    elif kind == "muxed":
        mux_sound(sources / "in.mp4", WAVE, RATE_HZ, path, comment)
    elif kind == "reencoded":
        reencode_with_sound(sources / "in.mp4", WAVE, RATE_HZ, path, comment)
    else:
        write_still_video(path, read_still(sources / "in.png"), 1.0, WAVE, RATE_HZ, comment)


def decoded(path):
    with av.open(str(path)) as container:
        return [(frame.pts, frame.to_ndarray().tobytes()) for frame in container.decode()]


@pytest.mark.parametrize("kind", ["flac", "video", "muxed", "reencoded", "still"])
def test_a_mark_comes_back_and_changes_nothing_else(sources, tmp_path, kind):
    suffix = ".flac" if kind == "flac" else ".mp4"
    plain = tmp_path / f"plain{suffix}"
    write(kind, sources, plain, "")
    assert read_sample_mark(plain) is None and is_foreign_sample(plain, "rain")
    for number, name in enumerate(IDS):
        path = tmp_path / f"{number}{suffix}"
        write(kind, sources, path, sample_mark(name, hash="0123"))
        found = read_sample_mark(path)
        assert (found["of"], found["hash"]) == (name, "0123")
        assert not is_foreign_sample(path, name) and is_foreign_sample(path, "other")
        assert decoded(path) == decoded(plain)
        if suffix == ".mp4":
            assert is_whole_mp4(path)
            with av.open(str(path)) as container:
                assert container.metadata["comment"] == mp4_comment(path) == sample_mark(name, hash="0123")
    again = tmp_path / f"again{suffix}"
    write(kind, sources, again, sample_mark(IDS[0], hash="0123"))
    assert again.read_bytes() == (tmp_path / f"0{suffix}").read_bytes()


def test_anything_else_carries_none(sources, tmp_path):
    whole = tmp_path / "whole.mp4"
    write("video", sources, whole, sample_mark("rain"))
    content = whole.read_bytes()
    for length in (0, 7, 8, 40, len(content) // 2):
        (tmp_path / "torn.mp4").write_bytes(content[:length])
        read_sample_mark(tmp_path / "torn.mp4")
        assert not is_whole_mp4(tmp_path / "torn.mp4")
    draw = np.random.default_rng(0)
    for _ in range(300):
        torn = bytearray(content)
        for place in draw.integers(0, len(torn), 20):
            torn[place] = draw.integers(0, 256)
        (tmp_path / "torn.mp4").write_bytes(torn)
        read_sample_mark(tmp_path / "torn.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    os.mkfifo(tmp_path / "pipe.flac")
    (tmp_path / "folder.flac").mkdir()
    (tmp_path / "small.mp4").write_bytes(b"\0\0\0\x08free" * 9000)
    (tmp_path / "link.mp4").symlink_to(tmp_path / "nothing.mp4")
    for name in ("pipe.mp4", "pipe.flac", "folder.flac", "small.mp4", "link.mp4"):
        assert read_sample_mark(tmp_path / name) is None and is_foreign_sample(tmp_path / name, "rain")
    assert not is_foreign_sample(tmp_path / "nothing.mp4", "rain")
