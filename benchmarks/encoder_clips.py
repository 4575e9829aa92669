"""Whole clips through the pretrained backend, as extraction has them encoded: how many a second, and how exactly."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.encoder_networks import CAPTION
from benchmarks.memory import peak_bytes
from mmaudio.base.specs import CLIP_SIDE_PX, SYNC_SIDE_PX, AudioSpec
from mmaudio.features.backend import Backend

NUM_CLIPS, NUM_ROUNDS = 16, 3
NUM_COMPARED = 2  # clips
COARSE_PX = 12  # side of the noise that pictures are enlarged from


@dataclass(frozen=True)
class Clips:
    """What they took, and how alike their features are to those of float32: stream → lowest cosine of two vectors."""

    clips_per_s: float
    peak_bytes: int | None  # beyond the weights; frames on the device included
    cosines: dict[str, float]


def _pictures(num_clips: int, num_frames: int, side_px: int) -> Tensor:
    """Coloured clouds: (clips, frames, 3, side, side) uint8."""
    coarse = torch.rand(num_clips * num_frames, 3, COARSE_PX, COARSE_PX)
    return F.interpolate(coarse, size=side_px, mode="bilinear").mul_(255).byte().unflatten(0, (num_clips, num_frames))


class MadeUpClips:
    """Frames, sound and captions in the CPU's memory, where reading files leaves them."""

    def __init__(self, spec: AudioSpec, num_clips: int) -> None:
        self.scene_u8 = _pictures(num_clips, spec.num_clip_frames, CLIP_SIDE_PX)
        self.sync_u8 = _pictures(num_clips, spec.num_sync_frames, SYNC_SIDE_PX)
        self.wave_bs, self.captions = torch.rand(num_clips, spec.num_samples) - 0.5, [CAPTION] * num_clips

    def features(self, backend: Backend, num_clips: int | None = None) -> dict[str, Tensor]:
        """Of all clips, or of the first few: stream → (clips, tokens, channels)."""
        some = slice(num_clips)
        return {
            "scene": backend.encode_clip(self.scene_u8[some]),
            "sync": backend.encode_sync(self.sync_u8[some]),
            "text": backend.encode_text(self.captions[some]),
            "sound": backend.encode_audio(self.wave_bs[some])[0],
        }


def lowest_cosines(features: Mapping[str, Tensor], want: Mapping[str, Tensor]) -> dict[str, float]:
    """The lowest over all tokens, by stream."""
    return {name: float(F.cosine_similarity(features[name].double(), want[name].double(), dim=-1).min()) for name in want}


def measure_clips(backend: Backend, reference: Callable[[], Backend], num_clips: int = NUM_CLIPS) -> Clips:
    """All clips at once; `reference` builds the backend in float32, when the times are taken."""
    device, clips = backend.device, MadeUpClips(backend.spec, num_clips)

    def seconds() -> float:
        began = time.perf_counter()
        clips.features(backend)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - began

    seconds()  # compiles, chooses kernels
    peak = peak_bytes(lambda: clips.features(backend), device)
    clips_per_s = num_clips / median(seconds() for _ in range(NUM_ROUNDS))
    found = clips.features(backend, NUM_COMPARED)
    return Clips(clips_per_s, peak, lowest_cosines(found, clips.features(reference(), NUM_COMPARED)))
