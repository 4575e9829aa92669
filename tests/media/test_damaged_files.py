"""Files with wrong bytes in them: whatever is broken, the answer is a MediaError in plain words, and it comes soon."""

import errno
import random
import resource
import signal
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from mmaudio.base.specs import AudioSpec
from mmaudio.media.audio import MediaError, read_audio
from mmaudio.media.containers import of_known_tracks
from mmaudio.media.mp4 import mux_sound, write_video
from mmaudio.media.video import read_silent_video, read_video
from tests.media.made_videos import RATE_HZ, clicks, copy_packets, counting_frames, make_video

SPEC = AudioSpec("16k", 0.64)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    wave = 0.3 * np.random.default_rng(0).uniform(-1, 1, RATE_HZ)
    return make_video(tmp_path_factory.mktemp("good") / "a.mp4", 0.96, 25, wave).read_bytes()


@pytest.fixture(autouse=True)
def quiet():
    """FFmpeg says a lot about such files."""
    level = av.logging.get_level()
    av.logging.set_level(av.logging.PANIC)
    yield
    av.logging.set_level(level)


def readings(path, folder):
    """Every way in which a video is read."""
    return (
        lambda: read_video(path, SPEC, with_sound=True),
        lambda: read_video(path, SPEC, with_sound=False),
        lambda: read_silent_video(path, 0.8),
        lambda: mux_sound(path, clicks(0.96, 0.3), RATE_HZ, folder / "out.mp4"),
    )


def reasons(path, folder):
    """What each reading says of a file; None where it is read after all."""
    told = []
    for read in readings(path, folder):
        try:
            read()
            told.append(None)
        except MediaError as error:
            told.append(str(error))
    return told


@pytest.mark.parametrize("seed", range(6))
def test_wrong_bytes_are_refused_or_read(tmp_path, good, seed):
    draw, path = random.Random(seed), tmp_path / "a.mp4"
    index_bytes = good.index(b"mdat")
    for _ in range(8):
        content = bytearray(good)
        for _ in range(draw.choice([1, 2, 8])):
            content[draw.randrange(draw.choice([index_bytes, len(good)]))] = draw.randrange(256)
        path.write_bytes(content)
        assert all(reason != "" for reason in reasons(path, tmp_path))


@pytest.mark.parametrize("share", [0.001, 0.02, 0.3, 0.9, 0.999])
def test_a_file_cut_anywhere(tmp_path, good, share):
    path = tmp_path / "a.mp4"
    path.write_bytes(good[: max(1, int(share * len(good)))])
    told = reasons(path, tmp_path)
    assert told[0] is not None or share > 0.99


def patched(content, name, offset, value):
    """Set bytes at an offset from the end of a box's name."""
    at = content.index(name, content.index(b"moov")) + 4 + offset
    return content[:at] + value + content[at + len(value) :]


def test_an_unknown_codec_is_named_as_such(tmp_path, good):
    path = tmp_path / "a.mp4"
    path.write_bytes(patched(good, b"avc1", -4, b"zzz1"))
    assert reasons(path, tmp_path) == ["its picture is in a format that cannot be decoded here"] * 4
    path.write_bytes(patched(patched(good, b"mp4a", -4, b"zzz1"), b"esds", -4, b"free"))
    assert reasons(path, tmp_path) == ["its sound is in a format that cannot be decoded here", None, None, None]


def test_a_track_without_frames_is_no_picture(tmp_path, good):
    path = tmp_path / "a.mp4"
    path.write_bytes(patched(good, b"stts", 4, bytes(4)))  # the table of times has no entries
    assert all(reason for reason in reasons(path, tmp_path))
    assert not (tmp_path / "out.mp4").exists()


@pytest.mark.parametrize("target", ["video", "audio"])
def test_a_wild_time_stamp_costs_no_memory(tmp_path, good, target):
    (tmp_path / "good.mp4").write_bytes(good)
    path = copy_packets(tmp_path / "good.mp4", tmp_path / "a.mkv", {target: 40_000}, format_name="matroska")
    told = reasons(path, tmp_path)
    if target == "audio":
        assert told == ["the sound has a gap of 40000 s", None, None, None]
    else:
        assert told[-1] == "its time stamps jump by 40000 s"


def test_sound_that_cannot_be_decoded_is_damage(tmp_path, good):
    # FFmpeg answers some broken AAC packets with "operation not permitted", which looks like a fault of the disk.
    path, draw = tmp_path / "a.mp4", random.Random(3)
    sound_from = good.index(b"mdat") + 2000
    told = set()
    for _ in range(12):
        content = bytearray(good)
        content[sound_from:] = draw.randbytes(len(good) - sound_from)
        path.write_bytes(content)
        told.add(reasons(path, tmp_path)[0])
    assert all(reason.startswith("the file is damaged (") for reason in told)


def test_samples_too_large_to_add_are_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.full((100, 2), 3e38), RATE_HZ, subtype="FLOAT")
    with pytest.raises(MediaError, match="not finite"):
        read_audio(tmp_path / "a.wav")


def test_a_track_that_appears_halfway_is_damage():
    def packets():
        yield 1
        raise IndexError("list index out of range")  # as PyAV's containers do

    read = of_known_tracks(packets())
    assert next(read) == 1
    with pytest.raises(MediaError, match="another track appears halfway"):
        next(read)


def test_names_that_mean_something_else_to_ffmpeg(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("concat:a.mp4", "%03d.mp4", "-i x é ☃.mp4", "http:a.mp4"):
        make_video(Path(name), 0.8, 25, clicks(0.8, 0.3))
        mux_sound(Path(name), clicks(0.8, 0.3), RATE_HZ, Path(f"new {name}"))
        assert len(read_silent_video(Path(f"new {name}"), 0.64).sync_u8) == 16


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXTINF:1,\nhttp://192.0.2.1/a.ts\n",
        "v=0\nm=video 5004 RTP/AVP 96\n",
        "ffconcat version 1.0\nfile 'b.mp4'\n",
        "ffconcat version 1.0\nfile 'a.mp4'\n",
    ],
)
def test_a_list_of_other_files_is_not_followed(tmp_path, good, text):
    (tmp_path / "b.mp4").write_bytes(good)
    path = tmp_path / "a.mp4"
    path.write_text(text)
    assert all(reasons(path, tmp_path))


def test_words_that_are_not_unicode_are_no_reason(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w", format="matroska") as container:
        container.metadata["title"] = "a title"
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
        for pixels in counting_frames(25):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    path.write_bytes(path.read_bytes().replace(b"a title", b"\xff\xfe\xfa\xfb\xff\xff\xff"))
    assert len(read_silent_video(path, 0.64).sync_u8) == 16


def test_a_full_disk_is_not_the_fault_of_the_video(tmp_path, good):
    path = tmp_path / "a.mp4"
    path.write_bytes(good)
    allowed = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that writing fails instead of ending the process
    try:
        for write in (
            lambda: mux_sound(path, clicks(0.96), RATE_HZ, tmp_path / "b.mp4"),
            lambda: write_video(tmp_path / "b.mp4", counting_frames(25), 25),
        ):
            resource.setrlimit(resource.RLIMIT_FSIZE, (600, allowed[1]))
            with pytest.raises(OSError) as caught:
                write()
            resource.setrlimit(resource.RLIMIT_FSIZE, allowed)
            assert caught.value.errno == errno.EFBIG and not isinstance(caught.value, MediaError)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, allowed)
        signal.signal(signal.SIGXFSZ, handler)
    assert [file.name for file in tmp_path.iterdir()] == ["a.mp4"]
