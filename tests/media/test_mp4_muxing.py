"""Many makes of video under a new sound: the same picture packets, shown at the same times, and sound as long as the picture."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from mmaudio.media.audio import MediaError
from mmaudio.media.mp4 import mux_sound
from tests.conftest import SHARED
from tests.media.made_videos import RATE_HZ, clicks

NUM_FRAMES, FPS = 40, 25
REORDERED = {"x264-params": "bframes=3:b-adapt=0:keyint=20"}
UNEVEN_MS = [0, 40, 50, 130, 200, 333, 400, 800, 810, 1000, 1040, 1100, 1500]


def moving_frames(count, height=48, width=64):
    noise = np.random.default_rng(0).integers(0, 128, (height, width, 3), dtype=np.uint8)
    for index in range(count):
        yield np.roll(noise, 3 * index, axis=1) + np.uint8(3 * index % 128)


def make(path, codec, *, options=None, times_ms=None, sounds=0, format_name=None, pixel_format="yuv420p"):
    """A video of noise that moves, with as many silent sound tracks as asked for."""
    tick = Fraction(1, 1000 if times_ms else FPS)
    with av.open(str(path), "w", format=format_name) as container:
        picture = container.add_stream(codec, rate=FPS, options=options or {})
        picture.width, picture.height, picture.pix_fmt, picture.codec_context.time_base = 64, 48, pixel_format, tick
        tracks = [container.add_stream("aac", rate=RATE_HZ, layout="mono") for _ in range(sounds)]
        for index, pixels in enumerate(moving_frames(len(times_ms or range(NUM_FRAMES)))):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=pixel_format)
            frame.pts, frame.time_base = (times_ms or range(NUM_FRAMES))[index], tick
            container.mux(picture.encode(frame))
            for track in tracks:
                block = av.AudioFrame.from_ndarray(np.full((1, 640), 0.1, np.float32), format="fltp", layout="mono")
                block.sample_rate, block.pts, block.time_base = RATE_HZ, 640 * index, Fraction(1, RATE_HZ)
                container.mux(track.encode(block))
        container.mux([packet for stream in [picture, *tracks] for packet in stream.encode(None)])
    return path


def packets_of(path):
    """The bytes of every picture packet, in the order of the file."""
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


def shown(path):
    """(time, pixels) of every frame that a player shows."""
    with av.open(str(path)) as container:
        return [(frame.pts * frame.time_base, frame.to_ndarray(format="gray")) for frame in container.decode(video=0)]


def check_copy(source, copy, *, same_bytes=True):
    """Packets, times and pixels are those of the source; the one sound ends with the last frame."""
    mux_sound(source, clicks(9.0, 0.3), RATE_HZ, copy)
    if same_bytes:
        assert packets_of(copy) == packets_of(source)
    frames, wanted = shown(copy), shown(source)
    assert len(frames) == len(wanted) > 0
    start = wanted[0][0] - frames[0][0]
    assert start == 0 or source.suffix == ".ts", "the sound starts at 0, the picture where it did; broadcast formats begin anywhere"
    assert max(abs(found[0] + start - want[0]) for found, want in zip(frames, wanted, strict=True)) < Fraction(1, 500)
    assert all(np.array_equal(found[1], want[1]) for found, want in zip(frames, wanted, strict=True))
    with av.open(str(copy)) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio"]
        sound = container.streams.audio[0]
        longest_s = max([after[0] - before[0] for before, after in zip(frames, frames[1:], strict=False)])
        assert 0 <= sound.duration * sound.time_base - frames[-1][0] <= longest_s + Fraction(1, 100)


CASES = {
    "frames_out_of_order.mp4": {"codec": "libx264", "options": REORDERED},
    "frames_out_of_order.mov": {"codec": "libx264", "options": REORDERED},
    "frames_out_of_order.mkv": {"codec": "libx264", "options": REORDERED},
    "uneven.mp4": {"codec": "libx264", "times_ms": UNEVEN_MS},
    "uneven.mkv": {"codec": "libx264", "times_ms": UNEVEN_MS, "options": REORDERED},
    "mpeg4.mp4": {"codec": "mpeg4", "options": {"bf": "2"}},
    "mpeg4.avi": {"codec": "mpeg4"},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"cpu-used": "8"}},
    "two_sounds.mp4": {"codec": "libx264", "sounds": 2},
    "one_frame.mkv": {"codec": "libx264", "times_ms": [0, 500]},
}


@pytest.mark.parametrize("name", CASES)
def test_the_picture_is_the_same(tmp_path, name):
    check_copy(make(tmp_path / name, **CASES[name]), tmp_path / "copy.mp4")


def test_subtitles_are_left_out(tmp_path):
    made = make(tmp_path / "made.mkv", "libx264", options=REORDERED)
    (tmp_path / "words.srt").write_text("1\n00:00:00,100 --> 00:00:01,000\na word\n")
    with av.open(str(made)) as pictures, av.open(str(tmp_path / "words.srt")) as words, av.open(str(tmp_path / "a.mkv"), "w") as both:
        for reading in (pictures, words):
            both.add_stream_from_template(reading.streams[0], opaque=True)
        for index, reading in enumerate((pictures, words)):
            for packet in reading.demux():
                if packet.size:
                    packet.stream = both.streams[index]
                    both.mux(packet)
    with av.open(str(tmp_path / "a.mkv")) as container:
        assert [stream.type for stream in container.streams] == ["video", "subtitle"]
    check_copy(tmp_path / "a.mkv", tmp_path / "copy.mp4")


@pytest.mark.parametrize("name", ["hevc.mp4", "hevc.mkv"])
def test_hevc(tmp_path, name):
    if "libx265" not in av.codecs_available:
        pytest.skip("no encoder of HEVC here")
    options = {"x265-params": "log-level=none:pools=none:bframes=2", "preset": "ultrafast"}
    check_copy(make(tmp_path / name, "libx265", options=options), tmp_path / "copy.mp4")


def test_av1_whose_decoder_has_a_name_of_its_own(tmp_path):
    if "libsvtav1" not in av.codecs_available:
        pytest.skip("no encoder of AV1 here")
    check_copy(make(tmp_path / "a.mkv", "libsvtav1", options={"preset": "12", "svtav1-params": "lp=1"}), tmp_path / "copy.mp4")


@pytest.mark.parametrize("name", ["broadcast.ts", "old.avi"])
def test_marks_between_the_parts_of_a_picture_are_the_formats_own(tmp_path, name):
    source = make(tmp_path / name, "libx264", options={"bf": "0"})
    check_copy(source, tmp_path / "copy.mp4", same_bytes=False)
    found, wanted = b"".join(packets_of(tmp_path / "copy.mp4")), b"".join(packets_of(source))
    parts = [part.rstrip(b"\0") for part in wanted.split(b"\0\0\1") if len(part) > 100]
    assert len(parts) >= NUM_FRAMES // 2 and all(part in found for part in parts)


@pytest.mark.parametrize(("shift_s", "flags"), [("0.5", "faststart"), ("-0.48", "faststart"), ("0", "frag_keyframe+empty_moov")])
def test_edit_lists_and_fragments(tmp_path, shift_s, flags):
    """A picture that starts late, one of which the start is not shown, and a file in fragments."""
    source, moved = make(tmp_path / "made.mp4", "libx264", options=REORDERED), tmp_path / "a.mp4"
    with av.open(str(source)) as reading, av.open(str(moved), "w", options={"movflags": flags}) as writing:
        copy = writing.add_stream_from_template(reading.streams.video[0], opaque=True)
        for packet in reading.demux(video=0):
            if packet.size:
                ticks = round(Fraction(shift_s) / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts + ticks, packet.dts + ticks, copy
                writing.mux(packet)
    check_copy(moved, tmp_path / "copy.mp4")
    if flags == "faststart":
        assert shown(moved)[0][0] == max(0, Fraction(shift_s))


def test_what_an_mp4_cannot_hold(tmp_path):
    for name, codec, pixel_format in (("a.webm", "libvpx", "yuv420p"), ("b.mov", "qtrle", "rgb24")):
        source = make(tmp_path / name, codec, pixel_format=pixel_format)
        with pytest.raises(MediaError, match=r"^its picture is \w+, which an \.mp4 cannot hold; have .* anew: --reencode$"):
            mux_sound(source, clicks(1.0), RATE_HZ, tmp_path / "copy.mp4")
    assert not list(tmp_path.glob("*copy*"))


@pytest.mark.skipif(not (SHARED / "media").is_dir(), reason="needs real media")
@pytest.mark.parametrize("source", sorted((SHARED / "media").glob("*.mp4")), ids=lambda path: Path(path).stem)
def test_real_videos(tmp_path, source):
    check_copy(source, tmp_path / "copy.mp4")
