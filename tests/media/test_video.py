"""Frames and sound of video files: which, when, how many, and what is refused with which words."""

from fractions import Fraction

import av
import numpy as np
import pytest
import torch

from mmaudio.base.specs import AudioSpec
from mmaudio.media import video
from mmaudio.media.audio import MediaError, write_flac
from mmaudio.media.frame_selection import ExactPicker, pick_frames
from mmaudio.media.video import read_silent_video, read_sound, read_sound_track, read_video
from tests.media.made_videos import RATE_HZ, clicks, copy_packets, counting_frames, levels, make_video

SPEC = AudioSpec("16k", 1.28)


def onsets_s(wave, rate_hz=RATE_HZ):
    loud = np.abs(np.asarray(wave)) > 0.3
    starts = np.flatnonzero(loud & ~np.concatenate([[False], loud[:-1]]))
    return [start / rate_hz for i, start in enumerate(starts) if i == 0 or start - starts[i - 1] > 400]


@pytest.mark.parametrize("fps", [8, 24, 25, 30, 60])
def test_frames_are_those_of_the_rule(tmp_path, fps):
    path = make_video(tmp_path / "a.mp4", 1.4, fps, clicks(1.5, 0.2))
    media = read_video(path, SPEC, with_sound=False)
    times = [Fraction(n, fps) for n in range(round(1.4 * fps))]
    assert media.clip_u8.dtype == media.sync_u8.dtype == torch.uint8 and media.wave is None
    assert media.clip_u8.shape == (10, 3, 384, 384) and media.sync_u8.shape == (32, 3, 224, 224)
    assert levels(media.clip_u8) == [n % 64 for n in pick_frames(times, ExactPicker(8, 10))]
    assert levels(media.sync_u8) == [n % 64 for n in pick_frames(times, ExactPicker(25, 32))]


@pytest.mark.parametrize(("fps", "missing"), [(24, 1), (25, 0)])
def test_exact_length_trains_whole_and_generates_what_it_covers(tmp_path, fps, missing):
    path = make_video(tmp_path / "a.mp4", 2.0, fps)
    media = read_video(path, AudioSpec("16k", 2.0), with_sound=False)
    assert media.sync_u8.shape[0] == 50 and media.clip_u8.shape[0] == 16
    assert levels(media.sync_u8)[-1] == 2 * fps - 1
    silent = read_silent_video(path, 2.0)
    assert silent.duration_s == 2.0 - missing / 25
    assert (len(silent.clip_u8), len(silent.sync_u8)) == (16 - missing, 50 - missing)


def test_sound_and_picture_share_one_clock(tmp_path):
    path = make_video(tmp_path / "a.mp4", 2.0, 25, clicks(2.0, 0.5, 1.25))
    wave = read_video(path, SPEC, with_sound=True).wave
    assert wave.shape == (SPEC.num_samples,)
    assert onsets_s(wave) == pytest.approx([0.5, 1.25], abs=0.002)


@pytest.mark.parametrize("late_s", [0.2, -0.2])
def test_late_and_early_tracks_keep_their_time(tmp_path, late_s):
    made = make_video(tmp_path / "made.mp4", 2.0, 25, clicks(2.0, 0.5))
    path = copy_packets(made, tmp_path / "a.mp4", {"audio": Fraction(late_s)})
    assert onsets_s(read_sound_track(path).wave) == pytest.approx([0.5 + late_s], abs=0.002)
    path = copy_packets(made, tmp_path / "b.mp4", {"video": Fraction(late_s)})
    shown = levels(read_video(path, SPEC, with_sound=False).sync_u8)
    assert shown == [max(0, n - round(late_s * 25)) for n in range(32)]  # a late first frame fills the outputs before it


def test_clock_of_a_broadcast_starts_anywhere(tmp_path):
    made = make_video(tmp_path / "made.mp4", 2.0, 25, clicks(2.0, 0.5))
    path = copy_packets(made, tmp_path / "a.ts", {"audio": Fraction(1000), "video": Fraction(1000)}, format_name="mpegts")
    assert levels(read_silent_video(path, 1.28).sync_u8) == pytest.approx(list(range(32)), abs=2)
    assert onsets_s(read_sound_track(path).wave) == pytest.approx([0.5], abs=0.1)  # its clock starts with the encoder's run-in


def test_a_gap_in_the_sound_is_silence(tmp_path):
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=RATE_HZ, layout="mono")
        for start_s in (0.0, 1.0):
            block = (clicks(0.5, 0.25)[None] * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(block, format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE_HZ, round(start_s * RATE_HZ), Fraction(1, RATE_HZ)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert onsets_s(read_sound_track(tmp_path / "a.mkv").wave) == pytest.approx([0.25, 1.25], abs=0.002)


def test_other_rate_is_resampled_before_the_cut(tmp_path):
    path = make_video(tmp_path / "a.mp4", 2.0, 25, clicks(2.0, 0.5, 1.25))
    spec = AudioSpec("44k", 1.28)
    wave = read_video(path, spec, with_sound=True).wave
    assert wave.shape == (spec.num_samples,)
    assert onsets_s(wave, 44_100) == pytest.approx([0.5, 1.25], abs=0.002)


def test_cover_art_is_no_picture(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 48, 32, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        container.mux(cover.encode(av.VideoFrame.from_ndarray(next(counting_frames(1)), format="rgb24").reformat(format="yuvj420p")))
        container.mux(cover.encode(None))
    with pytest.raises(MediaError, match=r"^the file has no picture$"):
        read_silent_video(tmp_path / "a.mp4", 1.0)


def refused(path, spec=SPEC, **options):
    with pytest.raises(MediaError) as caught:
        read_video(path, spec, **{"with_sound": True, "normalise": True, **options})
    return str(caught.value)


def test_files_that_are_no_video_say_why(tmp_path):
    path = tmp_path / "a.mp4"
    assert refused(path) == f"no file at {path}"
    path.touch()
    assert refused(path) == "the file is empty (0 bytes)"
    path.write_bytes(b"no video, but a text that someone gave the wrong name " * 9)
    assert refused(path).startswith("not a media file")
    make_video(path, 1.4)
    assert refused(path) == "the file has no sound"
    assert read_video(path, SPEC, with_sound=False).clip_u8.shape[0] == 10
    copy_packets(make_video(tmp_path / "b.mp4", 1.4, 25, clicks(1.4, 0.1)), path, {}, keep=("audio",))
    assert refused(path) == "the file has no picture"


def test_short_and_silent_videos_say_so(tmp_path):
    path = make_video(tmp_path / "a.mp4", 1.0, 25, clicks(1.4, 0.1))
    assert refused(path) == "too short: 9 of 10 scene frames at 8 per second"
    path = make_video(tmp_path / "a.mp4", 1.24, 25, clicks(1.4, 0.1))
    assert read_video(path, SPEC, with_sound=True).sync_u8.shape[0] == 32  # the 32nd is the 31st, held
    path = make_video(tmp_path / "a.mp4", 1.4, 25, clicks(1.1, 0.1))
    assert refused(path).startswith("too short: 1.1") and refused(path).endswith("want 1.280 s")
    path = make_video(tmp_path / "a.mp4", 1.4, 25, np.zeros(25_000, np.float32))
    assert refused(path).startswith("silent: ")
    assert read_video(path, SPEC, with_sound=True, normalise=False).wave.abs().max() < 1e-6


def test_a_file_that_was_cut_off_says_so(tmp_path):
    noise = 0.5 * np.random.default_rng(0).uniform(-1, 1, 4 * RATE_HZ)
    content = make_video(tmp_path / "a.mp4", 4.0, 25, noise).read_bytes()
    path = tmp_path / "b.mp4"
    path.write_bytes(content[: len(content) // 2])
    reason = refused(path, AudioSpec("16k", 3.84))
    assert reason.startswith(("the file is cut off: its ", "the file is damaged"))
    reason = refused(path, AudioSpec("16k", 3.84), with_sound=False)
    assert reason.startswith(("the file is cut off: its picture ends after", "the file is damaged"))


def test_a_video_too_short_to_generate_for(tmp_path):
    path = make_video(tmp_path / "a.mp4", 0.04)
    with pytest.raises(MediaError, match=r"^too short: 0\.04 s of picture, want at least 0\.64 s$"):
        read_silent_video(path, 8.0)


def test_audio_files_have_sound_too(tmp_path):
    write_flac(tmp_path / "a.FLAC", clicks(1.0, 0.5), RATE_HZ)
    assert onsets_s(read_sound(tmp_path / "a.FLAC").wave) == pytest.approx([0.5], abs=0.001)
    make_video(tmp_path / "a.mp4", 1.0, 25, clicks(1.0, 0.5))
    assert onsets_s(read_sound(tmp_path / "a.mp4").wave) == pytest.approx([0.5], abs=0.002)


@pytest.mark.parametrize("num_frames", [29, 57, 58, 113, 196, 200, 232])
def test_the_duration_counts_the_frames_it_stands_for(num_frames):
    duration_s = video._as_float(Fraction(num_frames, 25))
    assert duration_s == pytest.approx(num_frames / 25, abs=1e-12)
    assert AudioSpec("16k", duration_s).num_sync_frames == num_frames
