"""Videos as people have them: uneven frame times, odd sides, deep colours, exactly the length; and nothing left open."""

import os
from fractions import Fraction

import av
import numpy as np
import pytest
import torch

from mmaudio.base.specs import AudioSpec
from mmaudio.media.audio import MediaError
from mmaudio.media.frame_selection import ExactPicker, FfmpegPicker, pick_frames
from mmaudio.media.mp4 import mux_sound, write_video
from mmaudio.media.video import read_silent_video, read_video
from tests.media.made_videos import RATE_HZ, clicks, copy_packets, counting_frames, levels, make_video


def write_plain(path, times_s, *, height=32, width=48, codec="libx264", pix_fmt="yuv420p"):
    """A video of grey frames shown at these times, told in ticks of 1/1200 s."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=1200, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt, stream.time_base = width, height, pix_fmt, Fraction(1, 1200)
        for time_s, pixels in zip(times_s, counting_frames(len(times_s), height, width), strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = round(time_s * 1200), Fraction(1, 1200)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_uneven_frame_times(tmp_path):
    draw = np.random.default_rng(5)
    times_s = [Fraction(int(ticks), 1200) for ticks in np.cumsum([0, *draw.choice([12, 24, 40, 50, 90, 300], 40)])]
    assert times_s[-1] > 1.6
    media = read_silent_video(write_plain(tmp_path / "a.mp4", times_s), 1.6)
    assert levels(media.sync_u8) == [n % 64 for n in pick_frames(times_s, ExactPicker(25, 40))]
    assert levels(media.clip_u8) == [n % 64 for n in pick_frames(times_s, ExactPicker(8, 12))]


def test_50_frames_a_second(tmp_path):
    media = read_silent_video(make_video(tmp_path / "a.mp4", 1.0, 50), 0.96)
    assert levels(media.sync_u8) == list(range(0, 48, 2))
    assert levels(media.clip_u8) == [-(-50 * n // 8) for n in range(7)]


@pytest.mark.parametrize(("height", "width"), [(33, 47), (31, 200), (200, 31), (2, 2)])
def test_odd_and_narrow_pictures(tmp_path, height, width):
    path = write_plain(tmp_path / "a.mp4", [Fraction(n, 25) for n in range(20)], height=height, width=width, pix_fmt="yuv444p")
    media = read_silent_video(path, 0.8)
    assert media.clip_u8.shape == (6, 3, 384, 384) and media.sync_u8.shape == (20, 3, 224, 224)
    assert levels(media.sync_u8) == list(range(20))
    mux_sound(path, clicks(0.8), RATE_HZ, tmp_path / "b.mp4")
    assert torch.equal(read_silent_video(tmp_path / "b.mp4", 0.8).sync_u8, media.sync_u8)


@pytest.mark.parametrize("pix_fmt", ["yuv420p10le", "yuv422p", "yuv444p10le"])
def test_other_depths_and_colour_formats(tmp_path, pix_fmt):
    path = write_plain(tmp_path / "a.mp4", [Fraction(n, 25) for n in range(20)], pix_fmt=pix_fmt)
    seen = read_silent_video(path, 0.8).sync_u8.float().mean(dim=(1, 2, 3))
    assert (seen - 4 * torch.arange(20)).abs().max() < 4  # FFmpeg turns 10 bits to 8 within two grey levels


def test_colours_come_out_as_they_went_in(tmp_path):
    wanted = np.array([(200, 30, 40), (30, 160, 60), (40, 50, 190), (240, 240, 240)], np.uint8)
    pixels = np.repeat(np.repeat(wanted[None], 24, axis=1), 32, axis=0)  # four bars of 24 pixels
    write_video(tmp_path / "a.mp4", [pixels] * 20, 25)
    shown = read_silent_video(tmp_path / "a.mp4", 0.8).clip_u8[3]
    for bar in range(4):
        seen = shown[:, 192, 96 * bar + 48].numpy().astype(int)
        assert np.abs(seen - wanted[bar]).max() <= 6


@pytest.fixture(scope="module")
def eight_seconds(tmp_path_factory):
    """Videos of exactly 8 s and a little more, with sound as long as the picture."""
    folder = tmp_path_factory.mktemp("eight")
    for name, fps, duration_s in (("24", 24, 8.0), ("25", 25, 8.0), ("longer", 50, 8.02)):
        wave = clicks(duration_s, 0.5, 7.5, rate_hz=16_000)
        write_video(folder / f"{name}.mp4", counting_frames(round(duration_s * fps), 16, 16), fps, wave, 16_000)
    return folder


@pytest.mark.parametrize(("name", "last"), [("24", 191), ("25", 199), ("longer", 398)])
def test_a_video_of_exactly_8_seconds_is_kept(eight_seconds, name, last):
    media = read_video(eight_seconds / f"{name}.mp4", AudioSpec("16k"), with_sound=True)
    assert media.clip_u8.shape == (64, 3, 384, 384) and media.sync_u8.shape == (200, 3, 224, 224)
    assert media.wave.shape == (128_000,)
    assert levels(media.sync_u8[-1:]) == [last % 64]


def test_44k_needs_a_little_more_than_8_seconds_of_sound(eight_seconds):
    spec = AudioSpec("44k")
    assert read_video(eight_seconds / "longer.mp4", spec, with_sound=True).wave.shape == (353_280,)
    with pytest.raises(MediaError, match=r"^too short: 8\.000 s of sound, want 8\.011 s$"):
        read_video(eight_seconds / "25.mp4", spec, with_sound=True)


def test_nothing_is_left_open(tmp_path):
    path, broken = make_video(tmp_path / "a.mp4", 0.8, 25, clicks(0.8, 0.3)), tmp_path / "b.mp4"
    broken.write_bytes(path.read_bytes()[:-900])
    silent = make_video(tmp_path / "c.mp4", 0.4)
    spec = AudioSpec("16k", 0.64)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        read_video(path, spec, with_sound=True)
        mux_sound(path, clicks(0.8), RATE_HZ, tmp_path / "d.mp4")
        for bad in (broken, silent):
            with pytest.raises(MediaError):
                read_video(bad, spec, with_sound=True)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("late_s", [Fraction(0), Fraction(1, 2)])
def test_by_the_rule_of_ffmpeg_frames_are_numbered_from_the_first(tmp_path, late_s):
    made = make_video(tmp_path / "made.mp4", 2.0, 30, clicks(2.0, 0.5))
    path = copy_packets(made, tmp_path / "a.mp4", {"video": late_s})
    media = read_video(path, AudioSpec("16k", 1.28), with_sound=True, frame_rule="ffmpeg")
    times_s = [late_s + Fraction(n, 30) for n in range(60)]
    assert levels(media.clip_u8) == pick_frames(times_s, FfmpegPicker(8, 10))
    assert levels(media.sync_u8) == pick_frames(times_s, FfmpegPicker(25, 32))
    assert media.wave[7900:8100].abs().max() > 0.5 > media.wave[:7900].abs().max()  # the sound stays where it was


@pytest.mark.parametrize(("fps", "last"), [(24, 47), (25, 49), (30, 59), (60, 118)])
def test_by_the_rule_of_ffmpeg_an_exact_length_is_kept(tmp_path, fps, last):
    media = read_video(make_video(tmp_path / "a.mp4", 2.0, fps), AudioSpec("16k", 2.0), with_sound=False, frame_rule="ffmpeg")
    assert (len(media.clip_u8), len(media.sync_u8)) == (16, 50)
    assert levels(media.sync_u8[-1:]) == [last % 64]


def test_by_the_rule_of_ffmpeg_a_short_video_is_too_short(tmp_path):
    path = make_video(tmp_path / "a.mp4", 1.9, 30)
    with pytest.raises(MediaError, match=r"^too short: 15 of 16 scene frames at 8 per second$"):
        read_video(path, AudioSpec("16k", 2.0), with_sound=False, frame_rule="ffmpeg")


def test_uneven_frame_times_by_the_rule_of_ffmpeg(tmp_path):
    draw = np.random.default_rng(5)
    times_s = [Fraction(int(ticks), 1200) for ticks in np.cumsum([0, *draw.choice([12, 24, 40, 50, 90, 300], 40)])]
    media = read_video(write_plain(tmp_path / "a.mp4", times_s), AudioSpec("16k", 1.6), with_sound=False, frame_rule="ffmpeg")
    assert levels(media.sync_u8) == [n % 64 for n in pick_frames(times_s, FfmpegPicker(25, 40))]


def test_an_unknown_rule_is_refused_before_any_file_is_opened(tmp_path):
    with pytest.raises(ValueError, match=r"^frame_rule is 'nearest'; want one of exact, ffmpeg$"):
        read_video(tmp_path / "none.mp4", AudioSpec("16k"), with_sound=False, frame_rule="nearest")
