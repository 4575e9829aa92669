"""Pixels of decoded frames: upright, the values PyAV and torchvision give, and each converted at most once."""

from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from av.video.reformatter import VideoReformatter
from torchvision.transforms import v2

from mmaudio.base.specs import AudioSpec
from mmaudio.media import frame_streams as pictures
from mmaudio.media.frame_selection import ExactPicker, FfmpegPicker, pick_frames
from mmaudio.media.frame_streams import FilledStream, Shown, upright_rgb
from mmaudio.media.mp4 import write_video
from mmaudio.media.video import read_silent_video, read_video
from tests.media.made_videos import levels, make_video

BICUBIC = v2.InterpolationMode.BICUBIC


def test_pixels_are_those_of_the_plain_way(tmp_path):
    draw = np.random.default_rng(4)
    write_video(tmp_path / "a.mp4", [draw.integers(0, 256, (90, 160, 3), np.uint8) for _ in range(30)], 25)
    with av.open(str(tmp_path / "a.mp4")) as container:
        frames = [torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1) for frame in container.decode(video=0)]
    times_s = [Fraction(n, 25) for n in range(len(frames))]
    media = read_video(tmp_path / "a.mp4", AudioSpec("16k", 0.96), with_sound=False)
    scene = v2.Resize((384, 384), BICUBIC, antialias=True)
    sync = v2.Compose([v2.Resize(224, BICUBIC, antialias=True), v2.CenterCrop(224)])
    for got, transform, picker in ((media.clip_u8, scene, ExactPicker(8, 7)), (media.sync_u8, sync, ExactPicker(25, 24))):
        want = [transform(frames[index].contiguous()) for index in pick_frames(times_s, picker)]
        assert torch.equal(got, torch.stack(want))


@pytest.mark.parametrize("rule", ["exact", "ffmpeg"])
def test_only_what_is_wanted_of_the_picture_is_converted_and_that_once(tmp_path, monkeypatch, rule):
    path = make_video(tmp_path / "a.mp4", 4.0, 30)
    converted, pixels = [], pictures.upright_rgb
    monkeypatch.setattr(pictures, "upright_rgb", lambda frame, shared: converted.append(frame.time) or pixels(frame, shared))
    media = read_video(path, AudioSpec("16k", 0.64), with_sound=False, frame_rule=rule)
    times = [Fraction(n, 30) for n in range(22)]
    pickers = [(ExactPicker if rule == "exact" else FfmpegPicker)(*rate_and_count) for rate_and_count in ((8, 5), (25, 16))]
    clip, sync = (pick_frames(times, picker) for picker in pickers)
    assert (levels(media.clip_u8), levels(media.sync_u8)) == (clip, sync)
    assert [round(time_s * 30) for time_s in converted] == sorted({*clip, *sync})


def test_the_last_kept_frame_is_held(tmp_path):
    path = make_video(tmp_path / "a.mp4", 0.63, 100)  # ends at 0.62 s; the output at 0.64 s is missing
    shown = levels(read_video(path, AudioSpec("16k", 0.68), with_sound=False).sync_u8)
    assert shown == [*range(0, 64, 4), 62]


def test_the_size_may_change_halfway():
    reformatter = VideoReformatter()
    draw = np.random.default_rng(1)
    for height, width, pix_fmt in ((32, 48, "yuv420p"), (48, 32, "yuv420p"), (32, 48, "yuv444p"), (32, 48, "yuv420p"), (33, 47, "rgb24")):
        frame = av.VideoFrame.from_ndarray(draw.integers(0, 256, (height, width, 3), np.uint8), format="rgb24").reformat(format=pix_fmt)
        np.testing.assert_array_equal(upright_rgb(frame, reformatter).permute(1, 2, 0), frame.to_ndarray(format="rgb24"))


def test_there_is_room_for_any_number_of_frames(monkeypatch):
    monkeypatch.setattr(pictures, "FIRST_ROOM_FRAMES", 3)
    stream = FilledStream(ExactPicker(1, 40), lambda pixels: pixels[:, :4, :4], 4)
    for time_s in (0, 1, 2, 3, 30, 31, 39):
        frame = av.VideoFrame.from_ndarray(np.full((4, 4, 3), time_s, np.uint8), format="rgb24")
        frame.pts, frame.time_base = time_s, Fraction(1)
        stream.take(None, Shown(frame, Fraction(0), VideoReformatter()))
    assert stream.frames_u8.shape == (40, 3, 4, 4)
    assert stream.frames_u8[:, 2, 3, 3].tolist() == [0, 1, 2, 3] + [30] * 27 + [31] + [39] * 8


TURNS = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}  # clockwise, as a phone writes it: a b c d of the matrix


@pytest.mark.parametrize("degrees", TURNS)
def test_a_turned_picture_is_shown_upright(tmp_path, degrees):
    upright = np.zeros((32, 48, 3), np.uint8)
    upright[:16, :16] = 255  # top left
    stored = np.ascontiguousarray(np.rot90(upright, degrees // 90))  # a clockwise turn brings it back
    path = tmp_path / "a.mp4"
    write_video(path, [stored] * 25, 25)
    content = bytearray(path.read_bytes())
    matrix_at = content.index(b"tkhd") + 4 + 40
    a, b, c, d = (value << 16 for value in TURNS[degrees])
    content[matrix_at : matrix_at + 36] = b"".join(v.to_bytes(4, "big", signed=True) for v in (a, b, 0, c, d, 0, 0, 0, 1 << 30))
    path.write_bytes(content)
    shown = read_silent_video(path, 0.64).clip_u8[0].float().mean(dim=0)
    assert shown[:150, :90].mean() > 240
    assert shown[230:].mean() < 10 and shown[:, 170:].mean() < 10


MIRRORS = {"left to right": (-1, 0, 0, 1), "top to bottom": (1, 0, 0, -1), "both axes": (0, 1, 1, 0), "other diagonal": (0, -1, -1, 0)}


@pytest.mark.parametrize("mirror", MIRRORS)
def test_a_mirrored_picture_is_shown_as_a_player_shows_it(tmp_path, mirror):
    a, b, c, d = MIRRORS[mirror]
    stored = np.zeros((32, 32, 3), np.uint8)
    stored[:16, :8] = 255
    path = tmp_path / "a.mp4"
    write_video(path, [stored] * 20, 25)
    content = bytearray(path.read_bytes())
    matrix_at = content.index(b"tkhd") + 4 + 40
    matrix = (v << 16 for v in (a, b, 0, c, d, 0, 0, 0, 1 << 14))
    content[matrix_at : matrix_at + 36] = b"".join(v.to_bytes(4, "big", signed=True) for v in matrix)
    path.write_bytes(content)
    shown = read_silent_video(path, 0.64).clip_u8[0].float().mean(dim=0) > 128
    for y, x in ((8, 4), (24, 4), (8, 12), (8, 28), (4, 12), (28, 28), (12, 12)):  # the pixel at (x, y) goes to (ax + cy, bx + dy)
        to_x, to_y = ((a * (x - 16) + c * (y - 16)) + 16) * 12, ((b * (x - 16) + d * (y - 16)) + 16) * 12
        if abs(to_x - 192) > 6 and abs(to_y - 192) > 6:
            assert shown[to_y, to_x] == (stored[y, x, 0] > 128), (y, x)
