"""Planes to frames on the device, against what the host makes of the same decoded pictures."""

import sys
from itertools import islice

import av
import numpy as np
import pytest
import torch

from mmaudio.media.device_resize import Cut, PictureLayout, Planes, resize, rgb_of, scene_frames, sync_frames, taps_of
from mmaudio.media.frame_streams import scene_frame, sync_frame
from mmaudio.media.mp4 import write_video
from mmaudio.media.yuv_video import copy_planes_, has_planes, picture_layout, planes_of
from tests.media.test_real_media import VIDEO

BT709, NOT_TOLD, BT601, SMPTE240M, BT2020, RESERVED = 1, 2, 6, 7, 9, 3  # colour matrix codes of ITU-T H.273
LIMITED, FULL = 1, 2


def moving_pictures(count, height, width):
    """Coloured waves that wander, with hard edges and noise: (height, width, 3) uint8 each."""
    draw = np.random.default_rng(height * width)
    y, x = np.mgrid[0:height, 0:width]
    for index in range(count):
        waves = [np.sin((x + 5 * index) / 9), np.sin((y - 3 * index) / 14), np.sign(np.sin((x + y) / 31 + index))]
        levels = 128 + 110 * np.stack(waves, axis=-1) + draw.normal(0, 12, (height, width, 3))
        yield np.clip(levels, 0, 255).astype(np.uint8)


def write_clip(path, count, height, width, *, pix_fmt="yuv420p", matrix=NOT_TOLD, params=""):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "crf": "18", "x264-params": params})
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.codec_context.colorspace = matrix
        for pixels in moving_pictures(count, height, width):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=pix_fmt)))
        container.mux(stream.encode(None))
    return path


def decoded(path, count=None):
    with av.open(str(path)) as container:
        return list(islice(container.decode(video=0), count))


def made_frame(height, width, pix_fmt="yuv420p", matrix=NOT_TOLD, value_range=0):
    """A frame of random planes, with every level in them."""
    draw = np.random.default_rng(height + width)
    planes = draw.integers(0, 256, (height * 3 // 2, width), np.uint8)
    frame = av.VideoFrame.from_ndarray(planes, format=pix_fmt)
    frame.colorspace, frame.color_range = matrix, value_range
    return frame


def host_rgb(frame):
    return torch.from_numpy(frame.to_ndarray(format="rgb24", threads=1)).permute(2, 0, 1)


def planes_from(frames, scene_index, sync_index):
    assert len({picture_layout(frame) for frame in frames}) == 1
    packed = torch.stack([planes_of(frame) for frame in frames])
    return Planes(packed, picture_layout(frames[0]), torch.tensor(scene_index), torch.tensor(sync_index))


def assert_alike(got, want):
    """Far closer than 60 dB: host kernels of different CPU types are a level apart in places."""
    difference = got.double() - want.double()
    assert got.dtype == torch.uint8 and got.shape == want.shape
    assert difference.abs().max() <= 1 and difference.square().mean() <= 255**2 / 10**6


def assert_as_on_the_host(frames):
    planes = planes_from(frames, list(range(len(frames))), list(range(len(frames))))
    for frame, packed in zip(frames, planes.packed, strict=True):
        assert torch.equal(rgb_of(packed[None], planes.layout)[0], host_rgb(frame))
    assert_alike(scene_frames(planes), torch.stack([scene_frame(host_rgb(frame)) for frame in frames]))
    assert_alike(sync_frames(planes), torch.stack([sync_frame(host_rgb(frame)) for frame in frames]))


@pytest.mark.parametrize(("matrix", "pix_fmt"), [(NOT_TOLD, "yuv420p"), (BT709, "yuvj420p")])
def test_every_triple_of_levels(matrix, pix_fmt):
    blue, red = np.mgrid[0:256, 0:256].astype(np.uint8)
    for first in range(0, 256, 4):
        luma = np.tile(np.array([[first, first + 1], [first + 2, first + 3]], np.uint8), (256, 256))
        packed = np.concatenate([luma.ravel(), blue.ravel(), red.ravel()])
        frame = av.VideoFrame.from_ndarray(packed.reshape(768, 512), format=pix_fmt)
        frame.colorspace = matrix
        assert torch.equal(rgb_of(planes_of(frame)[None], picture_layout(frame))[0], host_rgb(frame))


@pytest.mark.parametrize("matrix", [BT709, NOT_TOLD, BT601, SMPTE240M, BT2020])
@pytest.mark.parametrize("value_range", [0, LIMITED, FULL])
def test_matrices_and_ranges(matrix, value_range):
    frame = made_frame(256, 256, matrix=matrix, value_range=value_range)
    assert torch.equal(rgb_of(planes_of(frame)[None], picture_layout(frame))[0], host_rgb(frame))


@pytest.mark.parametrize("width", [2, 14, 46, 62, 94, 1918])
def test_last_columns(width):
    frame = made_frame(6, width)
    assert torch.equal(rgb_of(planes_of(frame)[None], picture_layout(frame))[0], host_rgb(frame))


@pytest.mark.parametrize(
    ("height", "width", "matrix", "pix_fmt"),
    [
        (240, 320, NOT_TOLD, "yuv420p"),
        (360, 640, NOT_TOLD, "yuv420p"),
        (360, 640, BT709, "yuv420p"),
        (360, 640, BT709, "yuvj420p"),
        (480, 854, NOT_TOLD, "yuvj420p"),
        (720, 1280, BT709, "yuv420p"),
        (640, 360, NOT_TOLD, "yuv420p"),
        (90, 62, BT2020, "yuv420p"),
    ],
)
def test_encoded_clips(tmp_path, height, width, matrix, pix_fmt):
    frames = decoded(write_clip(tmp_path / "a.mp4", 3, height, width, matrix=matrix, pix_fmt=pix_fmt))
    assert len(frames) == 3 and frames[0].colorspace == matrix and picture_layout(frames[0]).is_full_range == (pix_fmt == "yuvj420p")
    assert_as_on_the_host(frames)


@pytest.mark.parametrize(("height", "width"), [(224, 384), (384, 384), (1080, 1920), (100, 1000)])
def test_random_planes_of_other_sizes(height, width):
    assert_as_on_the_host([made_frame(height, width)])


@pytest.mark.skipif(not VIDEO.is_file(), reason="the real media are not beside this checkout")
def test_a_real_video():
    assert_as_on_the_host(decoded(VIDEO, 40)[::13])


def test_every_output_shows_its_frame(monkeypatch):
    monkeypatch.setattr("mmaudio.media.device_resize.PIXELS_AT_ONCE", 2 * 64 * 48)  # two at once
    layout = PictureLayout(48, 64, is_full_range=True)
    packed = torch.full((5, layout.packed_bytes), 128, dtype=torch.uint8)
    packed[:, : 48 * 64] = torch.arange(0, 200, 40, dtype=torch.uint8)[:, None]
    planes = Planes(packed, layout, torch.tensor([0, 3, 3]), torch.tensor([0, 0, 1, 2, 4, 4]))
    assert scene_frames(planes).amin((1, 2, 3)).tolist() == [0, 120, 120]
    shown = sync_frames(planes)
    assert shown.amin((1, 2, 3)).tolist() == shown.amax((1, 2, 3)).tolist() == [0, 0, 40, 80, 160, 160]


def test_planes_are_copied_without_padding():
    frame = made_frame(34, 50)
    assert frame.planes[0].line_size > 50
    buffer = torch.zeros(2, 34 * 50 * 3 // 2, dtype=torch.uint8)
    copy_planes_(buffer[1], frame)
    assert not buffer[0].any() and torch.equal(buffer[1].view(51, 50), torch.from_numpy(frame.to_ndarray()))
    with pytest.raises(ValueError, match="50 x 34"):
        copy_planes_(buffer, frame)


def test_frames_for_the_host():
    assert has_planes(av.VideoFrame(48, 32, "yuv420p"))
    for width, height, pix_fmt in [(47, 32, "yuv420p"), (48, 31, "yuv420p"), (48, 32, "yuv444p"), (48, 32, "yuv420p10le")]:
        assert not has_planes(av.VideoFrame(width, height, pix_fmt))
    assert not has_planes(made_frame(32, 48, matrix=RESERVED))


def test_a_frame_that_was_asked_is_free_to_go():
    frame = made_frame(32, 48)
    references = sys.getrefcount(frame)
    assert has_planes(frame) and sys.getrefcount(frame) == references


def test_interlaced_frames_are_for_the_host(tmp_path):
    assert not any(has_planes(frame) for frame in decoded(write_clip(tmp_path / "a.mp4", 2, 96, 64, params="tff=1")))


def test_turned_frames_are_for_the_host(tmp_path):
    path = tmp_path / "a.mp4"
    write_video(path, moving_pictures(2, 32, 48), 25)
    assert all(has_planes(frame) for frame in decoded(path))
    content = bytearray(path.read_bytes())
    matrix_at = content.index(b"tkhd") + 4 + 40
    content[matrix_at : matrix_at + 16] = b"".join(v.to_bytes(4, "big", signed=True) for v in (0, 1 << 16, 0, -1 << 16))
    path.write_bytes(content)
    assert not any(has_planes(frame) for frame in decoded(path))


@pytest.mark.parametrize("source_px", [90, 224, 384, 1080, 3840])
@pytest.mark.parametrize("resized_px", [224, 384])
def test_products_are_exact_in_any_precision(source_px, resized_px):
    taps = taps_of(Cut(source_px, resized_px, 0, resized_px))
    upper, lower = parts = taps.taken_apart(torch.device("cpu")).chunk(2)
    assert torch.equal(upper.int() * 256 + lower.int(), taps.weights) and taps.weights.abs().max() < 2**15
    assert all(torch.equal(part.bfloat16().float(), part) and (part.abs().sum(1) * 255).max() < 2**24 for part in parts)
    assert (taps.weights.sum(1) / 2**taps.precision_bits - 1).abs().max() < 1e-3


def test_a_cut_is_part_of_the_whole():
    pictures = torch.from_numpy(np.stack(list(moving_pictures(2, 60, 100)))).permute(0, 3, 1, 2)
    whole = resize(pictures, taps_of(Cut(60, 40, 0, 40)), taps_of(Cut(100, 66, 0, 66)))
    cut = resize(pictures, taps_of(Cut(60, 40, 7, 20)), taps_of(Cut(100, 66, 30, 36)))
    assert whole.shape == (2, 3, 40, 66) and torch.equal(cut, whole[..., 7:27, 30:])
    same = taps_of(Cut(100, 100, 0, 100))
    assert torch.equal(resize(pictures, taps_of(Cut(60, 60, 0, 60)), same), pictures)
    with pytest.raises(ValueError, match="40 resized"):
        taps_of(Cut(60, 40, 30, 20))


def test_layouts_that_cannot_be():
    for height, width, matrix in [(31, 48, "bt709"), (32, 0, "bt709"), (32, 48, "bt470")]:
        with pytest.raises(ValueError, match="want"):
            PictureLayout(height, width, matrix)
    with pytest.raises(ValueError, match="want"):
        Planes(torch.zeros(2, 100, dtype=torch.uint8), PictureLayout(32, 48), torch.tensor([0]), torch.tensor([0]))


@pytest.mark.gpu
def test_a_gpu_gives_the_same_levels(monkeypatch):
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", True)
    planes = planes_from([made_frame(720, 1280)], [0], [0])
    for shown in (scene_frames, sync_frames):
        assert torch.equal(shown(planes.to("cuda")).cpu(), shown(planes))
