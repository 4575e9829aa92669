"""Both frame sizes, against the published system's pictures."""

import numpy as np
import pytest
import torch

from mmaudio.media.frame_streams import scene_frame, sync_frame
from tests.golden.fill import GOLDEN, given

GOLDEN_FRAMES = np.load(GOLDEN / "video_transforms.npz")
SIZES = [key.removeprefix("frame_sum_") for key in GOLDEN_FRAMES if key.startswith("frame_sum_")]


def made_frame(size):
    height, width = (int(side) for side in size.split("x"))
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    wave = 80 * np.sin(2 * np.pi * (x / 17 + y / 23))
    noise = given(f"frame:{size}", 3, height, width).numpy().astype(np.float64)
    levels = 127.5 + wave * np.array([1, 0.5, -0.8])[:, None, None] + 40 * noise
    return torch.from_numpy(np.clip(levels, 0, 255).astype(np.uint8))


@pytest.mark.parametrize("size", SIZES)
def test_frames_of_the_published_system(size):
    frame = made_frame(size)
    assert abs(frame.sum().item() - GOLDEN_FRAMES[f"frame_sum_{size}"]) <= 2  # a sine may round the other way
    scene, sync = scene_frame(frame), sync_frame(frame)
    assert scene.shape == (3, 384, 384) and sync.shape == (3, 224, 224)
    for got, stride, name in ((scene, 12, "clip"), (sync, 8, "sync")):
        want = GOLDEN_FRAMES[f"{name}_{size}"].astype(int)
        assert np.abs(got[:, ::stride, ::stride].numpy().astype(int) - want).max() <= 1
    unit = scene.double() / 255
    assert unit.sum().item() == pytest.approx(float(GOLDEN_FRAMES[f"clip_sum_{size}"]), rel=1e-5)
    signed = (sync.double() / 255 - 0.5) / 0.5
    assert signed.sum().item() == pytest.approx(float(GOLDEN_FRAMES[f"sync_sum_{size}"]), abs=20.0)


@pytest.mark.parametrize("size", [(90, 160), (160, 91)])
def test_memory_layout_does_not_matter(size):
    frame = torch.randint(0, 256, (*size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(3)).permute(2, 0, 1)
    for transform in (scene_frame, sync_frame):
        assert (transform(frame).int() - transform(frame.contiguous()).int()).abs().max() <= 1
