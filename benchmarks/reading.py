"""CPU seconds from a video file to what encoders take: the plain way, ours on the host, ours for a device, and the floor."""

import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import default_collate
from torchvision.transforms import v2

from mmaudio.base.specs import CLIP_FPS, CLIP_SIDE_PX, SYNC_FPS, SYNC_SIDE_PX, AudioSpec
from mmaudio.features.backend import build_backend
from mmaudio.media.frame_selection import ExactPicker, pick_frames
from mmaudio.media.mp4 import write_video
from mmaudio.media.video import read_video
from mmaudio.media.yuv_video import PlanarMedia, read_planar_video

SPEC = AudioSpec("16k")
HEIGHT, WIDTH, FPS, FILE_S = 360, 640, 25, 10
NOISES = (2, 12)  # grey levels: an easy clip, and one that is hard to decode
REPEATS = 7
DEVICE = torch.device("cpu")  # stands in for a GPU where values are compared


def _pictures(noise: int) -> Iterator[np.ndarray]:
    """Coloured waves that move, with noise on top."""
    draw = np.random.default_rng(0)
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    for number in range(FILE_S * FPS):
        waves = [np.sin((x * (3 + k) + y * (5 - k)) / 97 + number * (0.07 + 0.02 * k)) for k in range(3)]
        yield np.clip(128 + 90 * np.stack(waves, -1) + draw.normal(0, noise, (HEIGHT, WIDTH, 1)), 0, 255).astype(np.uint8)


def plain_way(path: Path) -> list[Tensor]:
    """Decode every frame to RGB with PyAV's defaults, resize those of both streams, to float, collate a batch of one."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        pixels = [torch.from_numpy(frame.to_ndarray(format="rgb24")).permute(2, 0, 1) for frame in frames]
        times_s = [Fraction(frame.pts) * frame.time_base for frame in frames if frame.pts is not None and frame.time_base is not None]
    wanted = ((CLIP_FPS, SPEC.num_clip_frames), (SYNC_FPS, SPEC.num_sync_frames))
    scene, sync = (torch.stack([pixels[n] for n in pick_frames(times_s, ExactPicker(rate_hz, count))]) for rate_hz, count in wanted)
    resize = v2.Resize((CLIP_SIDE_PX, CLIP_SIDE_PX), v2.InterpolationMode.BICUBIC)
    shorter = v2.Compose([v2.Resize(SYNC_SIDE_PX, v2.InterpolationMode.BICUBIC), v2.CenterCrop(SYNC_SIDE_PX)])
    scene_f, sync_f = resize(scene).float() / 255, (shorter(sync).float() / 255 - 0.5) / 0.5
    collated: list[Tensor] = default_collate([[scene_f, sync_f]])
    return collated


def _host_way(path: Path) -> list[Tensor]:
    media = read_video(path, SPEC, with_sound=False)
    return [media.clip_u8[None], media.sync_u8[None]]


def _decode(path: Path) -> None:
    """The floor: nothing but the frames of the clip decoded, in one thread."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for number, _ in enumerate(container.decode(stream)):
            if number >= SPEC.duration_s * FPS:
                return


def _cpu_s(calls: list[Callable[[], object]]) -> list[float]:
    """CPU seconds of this process for each call, in turns; medians."""
    spent: list[list[float]] = [[] for _ in calls]
    for _ in range(REPEATS):
        for call, times in zip(calls, spent, strict=True):
            began = time.process_time()
            call()
            times.append(time.process_time() - began)
    return [float(np.median(times)) for times in spent]


def _psnr(found: Tensor, wanted: Tensor) -> float:
    error = (found.double() - wanted.double()).square().mean().item()
    return float("inf") if error == 0 else 10 * float(np.log10(255**2 / error))


def _compare(path: Path, noise: int) -> None:
    room = torch.empty(0, 0, dtype=torch.uint8)

    def kept_room(num_frames: int, packed_bytes: int) -> Tensor:  # as page-locked memory is kept on a GPU machine
        nonlocal room
        if room.shape != (num_frames, packed_bytes):
            room = torch.zeros(num_frames, packed_bytes, dtype=torch.uint8)
        return room

    planar = read_planar_video(path, SPEC, with_sound=False, new_room=kept_room)
    assert isinstance(planar, PlanarMedia)
    host, plain, device = _host_way(path), plain_way(path), planar.frames_on(DEVICE)
    levels = [plain[0] * 255, (plain[1] / 2 + 0.5) * 255]
    differing = [int((level.round() - ours.float()).abs().max()) for level, ours in zip(levels, host, strict=True)]
    psnr = [_psnr(found[None], wanted) for found, wanted in zip(device, host, strict=True)]
    ways = {
        "the plain way": lambda: plain_way(path),
        "read_video (host)": lambda: _host_way(path),
        "read_planar_video (device does the rest)": lambda: read_planar_video(path, SPEC, with_sound=False, new_room=kept_room),
        "decode alone (floor)": lambda: _decode(path),
    }
    spent = _cpu_s(list(ways.values()))
    rate = path.stat().st_size * 8 / FILE_S / 1e6
    for name, seconds in zip(ways, spent, strict=True):
        print(f"| {rate:.1f} Mbit/s (noise {noise}) | {name} | {seconds:.3f} | {spent[0] / seconds:.2f} |")
    print(f"| | largest difference on the 8-bit grid, host against plain | {max(differing)} of 255 | |")
    print(f"| | PSNR of device frames against the host's (scene, synchronisation) | {psnr[0]:.0f}, {psnr[1]:.0f} dB | |", flush=True)


def print_table() -> None:
    """One clip of 8 s, without its sound; then what the lite encoders take."""
    torch.set_num_threads(1)
    print(f"8 s of a {FILE_S} s file, {WIDTH} x {HEIGHT}, {FPS} fps, H.264; CPU seconds a clip, one thread\n")
    print("| file | way | CPU s | rate against the plain way |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        for noise in NOISES:
            write_video(path, _pictures(noise), FPS)
            _compare(path, noise)
        media = read_video(path, SPEC, with_sound=False)
    backend = build_backend("lite", "16k")
    backend.encode_text([""])  # loads the tokenizer, once a process
    wave = torch.randn(1, SPEC.num_samples, generator=torch.Generator().manual_seed(0)) / 8
    encoders = {
        "scene features": lambda: backend.encode_clip(media.clip_u8[None]),
        "synchronisation features": lambda: backend.encode_sync(media.sync_u8[None]),
        "latents": lambda: backend.encode_audio(wave),
        "text": lambda: backend.encode_text(["a wooden ball"]),
    }
    print("\n| lite | CPU s |\n|---|---|")
    for name, seconds in zip(encoders, _cpu_s(list(encoders.values())), strict=True):
        print(f"| {name} | {seconds:.3f} |")
