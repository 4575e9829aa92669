"""Damage that decoders make up for and go on: it is found where they tell of it, and good files are not taken for damaged."""

import errno
import os
import struct
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import soundfile

from mmaudio.base.specs import AudioSpec
from mmaudio.media.audio import MediaError, audio_header, mono_blocks, read_audio
from mmaudio.media.containers import check_sides
from mmaudio.media.frame_streams import Shown
from mmaudio.media.resampling import resample
from mmaudio.media.video import read_silent_video, read_sound_track, read_video
from mmaudio.media.yuv_video import read_planar_video
from tests.media.made_videos import RATE_HZ

SPEC = AudioSpec("16k", 0.64)
NUM_FRAMES = 40
TS_BYTES = 188
NOISE = np.random.default_rng(0)
FIELD = NOISE.integers(0, 255, (64, 96 + NUM_FRAMES, 3), np.uint8)
WAVE = NOISE.uniform(-0.4, 0.4, 2 * 48_000).astype(np.float32)


def write(path, codec="libx264", sound="aac", rate_hz=RATE_HZ, **options):
    """1.6 s of noise that moves, and sound."""
    with av.open(str(path), "w") as container:
        picture = container.add_stream(codec, rate=25, options=options)
        picture.width, picture.height, picture.pix_fmt = 96, 64, "yuv420p"
        track = container.add_stream(sound, rate=rate_hz, layout="mono")
        for index in range(NUM_FRAMES):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(FIELD[:, index : index + 96]), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(picture.encode(frame))
        wave = av.AudioFrame.from_ndarray(WAVE[None, : round(1.6 * rate_hz)], format="fltp", layout="mono")
        wave.sample_rate, wave.pts, wave.time_base = rate_hz, 0, Fraction(1, rate_hz)
        blocks = av.AudioResampler(track.codec_context.format.name, "mono", rate_hz, track.codec_context.frame_size or 1024)
        for block in [*blocks.resample(wave), *blocks.resample(None)]:
            container.mux(track.encode(block))
        container.mux([*track.encode(None), *picture.encode(None)])
    return path


@pytest.fixture(autouse=True)
def quiet():
    """FFmpeg says a lot about such files."""
    level = av.logging.get_level()
    av.logging.set_level(av.logging.PANIC)
    yield
    av.logging.set_level(level)


def refused(read, path, *args, **options):
    with pytest.raises(MediaError) as caught:
        read(path, *args, **options)
    return str(caught.value)


def shorten_slice(path, index):
    """Declare the second half of one picture to be filler: its length and that of its other half stay right."""
    with av.open(str(path)) as container:
        packet = [p for p in container.demux(video=0) if p.size][index]
        at, left, shown_s = packet.pos, packet.size, float(packet.pts * packet.time_base)
    content = bytearray(path.read_bytes())
    while content[at + 4] & 31 not in (1, 5):  # what else comes with the picture
        unit = 4 + struct.unpack_from(">I", content, at)[0]
        at, left = at + unit, left - unit
    half = (left - 4) // 2
    content[at : at + 4] = struct.pack(">I", half)
    content[at + 4 + half : at + left] = struct.pack(">I", left - 8 - half) + b"\x0c" + b"\xff" * (left - 10 - half) + b"\x80"
    path.write_bytes(content)
    return shown_s


@pytest.mark.parametrize("rule", ["exact", "ffmpeg"])
@pytest.mark.parametrize("read", [read_video, read_planar_video])
def test_a_picture_that_the_decoder_had_to_make_up_is_damage(tmp_path, read, rule):
    path = write(tmp_path / "a.mp4", g="100", bf="0")
    assert shorten_slice(path, 9) == 0.36
    assert refused(read, path, SPEC, with_sound=True, frame_rule=rule) == "the picture is damaged at 0.36 s"


@pytest.mark.parametrize("index", [17, 18, 30])
def test_damage_after_the_clip_does_not_matter(tmp_path, index):
    path = write(tmp_path / "a.mp4", g="100", bf="0")
    good = read_video(path, SPEC, with_sound=True)
    shorten_slice(path, index)
    found = read_video(path, SPEC, with_sound=True)
    assert found.sync_u8.equal(good.sync_u8) and found.clip_u8.equal(good.clip_u8) and found.wave.equal(good.wave)


def test_damage_ends_at_a_key_frame():
    """Where frames before time 0, or between those that are shown, are damaged."""
    told, damaged_s = [], None
    for number, kind in enumerate(["key", "", "corrupt", "", "corrupt", "key", "", "key corrupt", ""]):
        frame = SimpleNamespace(pts=number, time_base=Fraction(1, 25), duration=1, key_frame="key" in kind, is_corrupt="corrupt" in kind)
        damaged_s = Shown(frame, Fraction(0), None, damaged_s).damaged_s
        told.append(damaged_s and damaged_s * 25)
    assert told == [None, None, 2, 2, 2, None, None, 7, 7]


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_a_lost_packet_of_a_broadcast_is_damage_and_a_start_or_end_in_the_middle_is_none(tmp_path, codec):
    whole = write(tmp_path / "a.ts", codec, "mp2", g="12", bf="2").read_bytes()
    pieces = [whole[at : at + TS_BYTES] for at in range(0, len(whole), TS_BYTES)]
    of_picture = [n for n, piece in enumerate(pieces) if piece[1] & 31 == 1 and piece[2] == 0 and not piece[1] & 64]
    path, told = tmp_path / "b.ts", []
    some = of_picture[5 : len(of_picture) // 3 : 2]
    for lost in some:
        path.write_bytes(b"".join(pieces[:lost] + pieces[lost + 1 :]))
        try:
            read_video(path, SPEC, with_sound=False)
        except MediaError as error:
            told.append(str(error))
    assert all(reason.startswith(("the picture is damaged at 0.", "the file is damaged (")) for reason in told)
    assert len(told) > 0.8 * len(some)
    for first in range(0, len(pieces) // 3, 11):
        path.write_bytes(b"".join(pieces[first:]))
        assert len(read_video(path, SPEC, with_sound=False).sync_u8) == 16
    for last in range(3 * len(pieces) // 4, len(pieces), 11):
        path.write_bytes(b"".join(pieces[:last]))
        assert len(read_video(path, SPEC, with_sound=False).sync_u8) == 16


OPEN_GOP = {"x264-params": "open-gop=1:keyint=8:min-keyint=8:bframes=3:b-adapt=0:scenecut=0"}


@pytest.mark.parametrize("num_lost", [0, 3, 8, 9])
def test_a_start_in_the_middle_of_an_open_group_is_no_damage(tmp_path, num_lost):
    made = write(tmp_path / "made.mkv", **OPEN_GOP)
    path = tmp_path / "a.mkv"
    with av.open(str(made)) as reading, av.open(str(path), "w") as writing:
        picture = reading.streams.video[0]
        copy = writing.add_stream_from_template(picture)
        for packet in [p for p in reading.demux(picture) if p.dts is not None][num_lost:]:
            packet.stream = copy
            writing.mux(packet)
    assert len(read_silent_video(path, 0.64).sync_u8) == 16


@pytest.mark.parametrize(("sound", "suffix"), [("flac", ".mkv"), ("ac3", ".mkv"), ("eac3", ".mp4")])
def test_sound_with_checksums_is_held_to_them(tmp_path, sound, suffix):
    path = write(tmp_path / f"a{suffix}", sound=sound, rate_hz=48_000)
    with av.open(str(path)) as container:
        decoded = np.concatenate([frame.to_ndarray().mean(axis=0) for frame in container.decode(audio=0)])
    found = read_sound_track(path).wave
    if sound == "flac":
        np.testing.assert_allclose(found, decoded / 32_768, atol=1e-6)
    else:
        assert np.array_equal(found[-len(decoded) :], decoded[-len(found) :])
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(audio=0) if p.size]
        middle = bytes(packets[len(packets) // 2])[64:96]
    content = path.read_bytes()
    at = content.index(middle)
    path.write_bytes(content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :])
    assert refused(read_video, path, SPEC, with_sound=True).startswith(("the file is damaged (", "the sound is damaged at "))


def test_every_bit_of_a_flac_counts(tmp_path):
    path, draw = tmp_path / "a.flac", np.random.default_rng(1)
    soundfile.write(path, 0.5 * WAVE[:20_000], RATE_HZ)
    good = path.read_bytes()
    for _ in range(60):
        at = draw.integers(len(good) // 4, len(good))
        path.write_bytes(good[:at] + bytes([good[at] ^ 1 << draw.integers(8)]) + good[at + 1 :])
        assert refused(read_audio, path).startswith("the audio is damaged: ")


def test_a_flac_that_promises_more_than_it_can_hold(tmp_path):
    path = tmp_path / "a.flac"
    soundfile.write(path, 0.5 * WAVE[:20_000], RATE_HZ)
    good = path.read_bytes()
    path.write_bytes(good[:22] + b"\xff" * 4 + good[26:])  # the lower half of how many samples there are
    assert refused(audio_header, path).endswith(f"promises 4294967295 samples, more than its {len(good)} bytes can hold")


@pytest.mark.parametrize("level", [0.0, 0.5])
def test_the_smallest_flac_is_believed(tmp_path, level):
    soundfile.write(tmp_path / "a.flac", np.full(3_000_000, level), RATE_HZ, subtype="PCM_S8")
    assert audio_header(tmp_path / "a.flac") == (3_000_000, RATE_HZ)
    with soundfile.SoundFile(tmp_path / "a.flac") as file:
        assert sum(len(block) for block in mono_blocks(file)) == 3_000_000


def test_wild_rates_and_sides_are_refused(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, WAVE, RATE_HZ)
    content = path.read_bytes()
    for rate_hz in (1 << 21, (1 << 31) - 1):
        path.write_bytes(content[:24] + struct.pack("<I", rate_hz) + content[28:])
        assert refused(audio_header, path) == f"its rate is {rate_hz} Hz, which is none to be believed"
    check_sides(7680, 4320)
    check_sides(0, 0)
    for sides in ((16_384, 16_384), (4, 16_384), (0, 48)):
        with pytest.raises(MediaError, match="which is none to be believed"):
            check_sides(*sides)


def test_a_picture_of_wild_size_costs_no_memory(tmp_path):
    path = tmp_path / "a.gif"
    with av.open(str(path), "w") as container:
        picture = container.add_stream("gif", rate=25)
        picture.width, picture.height, picture.pix_fmt = 64, 48, "rgb8"
        for index in range(NUM_FRAMES):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(FIELD[:48, index : index + 64]), format="rgb24")
            container.mux(picture.encode(frame.reformat(format="rgb8")))
        container.mux(picture.encode(None))
    content = path.read_bytes()
    path.write_bytes(content[:6] + struct.pack("<HH", 16_000, 16_000) + content[10:])
    assert refused(read_silent_video, path, 0.64) == "its picture is 16000 x 16000 pixels, which is none to be believed"


def test_a_high_rate_is_resampled_in_little_memory(monkeypatch):
    wave = WAVE[:20_000]
    some = resample(wave, 192_001, 16_000)
    monkeypatch.setattr("mmaudio.media.resampling.WEIGHTS_AT_ONCE", 1 << 14)
    assert resample(wave, 192_001, 16_000).equal(some)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ENAMETOOLONG])
def test_a_file_that_cannot_be_looked_at(tmp_path, monkeypatch, number):
    def fail(*args, **options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "stat", fail)
    assert refused(read_silent_video, tmp_path / "a.mp4", 0.64) == f"the file cannot be read ({os.strerror(number)})"


def test_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path):
    os.mkfifo(tmp_path / "a.mp4")
    assert refused(read_silent_video, tmp_path / "a.mp4", 0.64).endswith("not a regular file")
