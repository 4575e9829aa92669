"""Every rate, length, width and dtype word; nothing mutable, no torch."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


# ---- Floating-point types, by the words that command lines and backends have for them

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}  # word → torch's name

LAYOUTS = ("compact", "published")  # of a store
CHOSEN_DTYPES = ("clip_features", "sync_features", "text")  # what of the compact layout has a choice of dtype


def torch_dtype(word: str) -> "torch.dtype":
    """The type of a word of DTYPES."""
    import torch  # the help of commands lists the words, and comes without it

    dtype: torch.dtype = getattr(torch, DTYPES[word])
    return dtype


CLIP_FPS = 8  # frames per second of the scene (CLIP) stream
SYNC_FPS = 25  # frames per second of the synchronisation stream
CLIP_SIDE_PX = 384
SYNC_SIDE_PX = 224
CLIP_WIDTH = 1024
SYNC_WIDTH = 768
TEXT_WIDTH = 1024
TEXT_TOKENS = 77
SYNC_SEGMENT_FRAMES = 16  # a segment of the sync stream …
SYNC_SEGMENT_STEP = 8  # … starts every 8 frames …
SYNC_TOKENS_PER_SEGMENT = 8  # … and gives 8 tokens, one per pair of frames
SYNC_AUDIO_TOKENS_PER_SEGMENT = 6  # of the sound that goes with it, for telling how far both are apart
LATENT_DOWNSAMPLING = 2  # mel frames per latent
PEAK_LEVEL = 0.95  # largest sample of a normalised training file
SILENCE_PEAK = 1e-6  # a file whose largest sample is below this is silent
MIN_DURATION_S = 0.64  # one sync segment
DEFAULT_DURATION_S = 8.0


@dataclass(frozen=True)
class Mode:
    """What the published system calls a mode: the constants that belong to one sampling rate."""

    name: str
    rate_hz: int
    hop_samples: int
    fft_samples: int
    num_mels: int
    fmin_hz: float
    fmax_hz: float
    log_base: float
    latent_channels: int


MODES = {
    "16k": Mode("16k", 16_000, 256, 1024, 80, 0.0, 8_000.0, 10.0, 20),
    "44k": Mode("44k", 44_100, 512, 2048, 128, 0.0, 22_050.0, math.e, 40),
}


@dataclass(frozen=True)
class AudioSpec:
    """Sequence lengths of one clip of `duration_s` seconds in one mode (network.md section 2).

    Raises: ValueError for an unknown mode or a duration below 0.64 s (one sync segment).
    """

    mode: str = "16k"
    duration_s: float = DEFAULT_DURATION_S

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"mode is {self.mode!r}; want one of {', '.join(MODES)}")
        if not self.duration_s >= MIN_DURATION_S:
            raise ValueError(f"duration is {self.duration_s} s; want at least {MIN_DURATION_S} s, one sync segment")

    @property
    def constants(self) -> Mode:
        return MODES[self.mode]

    @property
    def rate_hz(self) -> int:
        return self.constants.rate_hz

    @property
    def latent_channels(self) -> int:
        return self.constants.latent_channels

    @property
    def num_latents(self) -> int:
        # The order of these operations is part of the published format: it decides ties in double precision.
        return math.ceil(((self.duration_s * self.rate_hz) / self.constants.hop_samples) / LATENT_DOWNSAMPLING)

    @property
    def num_samples(self) -> int:
        return self.num_latents * self.constants.hop_samples * LATENT_DOWNSAMPLING

    @property
    def num_clip_frames(self) -> int:
        """Frames of the scene stream, which are also its tokens."""
        return int(self.duration_s * CLIP_FPS)

    @property
    def num_sync_frames(self) -> int:
        return int(self.duration_s * SYNC_FPS)

    @property
    def num_sync_tokens(self) -> int:
        segments = (self.duration_s * SYNC_FPS - SYNC_SEGMENT_FRAMES) // SYNC_SEGMENT_STEP + 1
        return int(segments * SYNC_SEGMENT_FRAMES / 2)
