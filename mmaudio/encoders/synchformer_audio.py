"""Synchformer's audio branch: what is heard and when, 6 vectors a segment of 0.64 s (Iashin et al. 2024, 2401.16423).

Each segment's log-mel picture goes through an audio spectrogram transformer (Gong et al. 2021, 2104.01778) and one layer that
sums each column of patches, which is one moment, up. Modules carry the names of the published file.

Axes: b clip, n segment, m mel band, f frame, t token (two special ones, then patches by band and time), h head, c channel.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
import torchaudio.functional
from torch import Tensor, nn

from mmaudio.base.specs import SYNC_AUDIO_TOKENS_PER_SEGMENT, SYNC_WIDTH
from mmaudio.encoders.synchformer import SpatialSummary
from mmaudio.files.tensor_files import load_part

PREFIX = "afeat_extractor."
RATE_HZ = 16_000
SEGMENT_SAMPLES = 10_240  # 0.64 s, as long as a segment of frames …
SEGMENT_STEP = 5_120  # … and starting as often
WINDOW_SAMPLES, HOP_SAMPLES, FFT_SAMPLES = 400, 160, 1024
NUM_BANDS, NUM_FRAMES = 128, 66
POWER_FLOOR = 1e-6
LOG_MEAN, LOG_SPREAD = -4.2677393, 4.5689974
DEPTH = 12
NUM_HEADS = 12
MLP_WIDTH = 4 * SYNC_WIDTH
NORM_EPS = 1e-12
PATCH, PATCH_STEP = 16, 10
NUM_SPECIAL = 2
PATCH_ROWS = (NUM_BANDS - PATCH) // PATCH_STEP + 1
MOST_SEGMENTS = 256  # encoded at once; it bounds the memory


class SegmentSpectrogram(nn.Module):
    """Segments (n, 10240) at 16 kHz → normalised log-mel pictures (n, 128, 66), float32."""

    window: Tensor
    filters_km: Tensor

    def __init__(self) -> None:
        super().__init__()
        bins = FFT_SAMPLES // 2 + 1
        with torch.device("cpu"):  # computed, not loaded, so also where the weights take no memory yet
            filters_km = torchaudio.functional.melscale_fbanks(bins, 0.0, RATE_HZ / 2, NUM_BANDS, RATE_HZ, norm=None, mel_scale="htk")
            self.register_buffer("window", torch.hann_window(WINDOW_SAMPLES), persistent=False)
            self.register_buffer("filters_km", filters_km, persistent=False)

    def forward(self, segments: Tensor) -> Tensor:
        segments = segments.to(self.window)
        spectrum_nkf = torch.stft(segments, FFT_SAMPLES, HOP_SAMPLES, WINDOW_SAMPLES, self.window, pad_mode="reflect", return_complex=True)
        power_nkf = spectrum_nkf.real.square() + spectrum_nkf.imag.square()
        log_nmf = (self.filters_km.T @ power_nkf + POWER_FLOOR).log()
        log_nmf = F.pad(log_nmf, (0, NUM_FRAMES - log_nmf.shape[-1]))  # with 0.0, which is no silence: as the model was trained
        return (log_nmf - LOG_MEAN) / (2 * LOG_SPREAD)


class Embeddings(nn.Module):
    """Pictures (n, 128, 66) → two special tokens and 12 by 6 overlapping patches, each with its place: (n, 74, c)."""

    def __init__(self) -> None:
        super().__init__()
        places = NUM_SPECIAL + PATCH_ROWS * SYNC_AUDIO_TOKENS_PER_SEGMENT
        self.cls_token = nn.Parameter(torch.zeros(1, 1, SYNC_WIDTH))
        self.distillation_token = nn.Parameter(torch.zeros(1, 1, SYNC_WIDTH))
        self.position_embeddings = nn.Parameter(torch.zeros(1, places, SYNC_WIDTH))
        self.patch_embeddings = nn.ModuleDict({"projection": nn.Conv2d(1, SYNC_WIDTH, PATCH, stride=PATCH_STEP)})

    def forward(self, pictures_nmf: Tensor) -> Tensor:
        patches_ntc = self.patch_embeddings["projection"](pictures_nmf[:, None]).flatten(2).transpose(1, 2)
        special = [token.expand(len(pictures_nmf), -1, -1) for token in (self.cls_token, self.distillation_token)]
        return torch.cat((*special, patches_ntc), dim=1) + self.position_embeddings


class AudioAttention(nn.Module):
    """Every token attends to all of its segment."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.ModuleDict({name: nn.Linear(SYNC_WIDTH, SYNC_WIDTH) for name in ("query", "key", "value")})
        self.output = nn.ModuleDict({"dense": nn.Linear(SYNC_WIDTH, SYNC_WIDTH)})

    def forward(self, x_ntc: Tensor) -> Tensor:
        q, k, v = (self.attention[name](x_ntc).unflatten(-1, (NUM_HEADS, -1)).transpose(1, 2) for name in ("query", "key", "value"))
        return self.output["dense"](F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """Attention, then two linear maps with the exact (erf) GELU between them; each on normalised tokens and added."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = AudioAttention()
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(SYNC_WIDTH, MLP_WIDTH)})
        self.output = nn.ModuleDict({"dense": nn.Linear(MLP_WIDTH, SYNC_WIDTH)})
        self.layernorm_before = nn.LayerNorm(SYNC_WIDTH, eps=NORM_EPS)
        self.layernorm_after = nn.LayerNorm(SYNC_WIDTH, eps=NORM_EPS)

    def forward(self, x_ntc: Tensor) -> Tensor:
        x_ntc = x_ntc + self.attention(self.layernorm_before(x_ntc))
        return x_ntc + self.output["dense"](F.gelu(self.intermediate["dense"](self.layernorm_after(x_ntc))))


class SpectrogramTransformer(nn.Module):
    """Pictures (n, 128, 66) → normalised patch tokens (n, 72, c), by band and then time."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.embeddings = Embeddings()
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(Layer() for _ in range(depth))})
        self.layernorm = nn.LayerNorm(SYNC_WIDTH, eps=NORM_EPS)

    def forward(self, pictures_nmf: Tensor) -> Tensor:
        x_ntc = self.embeddings(pictures_nmf)
        for layer in self.encoder["layer"].children():
            x_ntc = layer(x_ntc)
        return self.layernorm(x_ntc)[:, NUM_SPECIAL:]


class SoundSegmentEncoder(nn.Module):
    """Pictures of segments to 6 vectors each: (n, 128, 66) → (n, 6, 768)."""

    def __init__(self, depth: int = DEPTH) -> None:
        super().__init__()
        self.ast = SpectrogramTransformer(depth)
        self.freq_attn_agg = SpatialSummary()

    def forward(self, pictures_nmf: Tensor) -> Tensor:
        columns = self.ast(pictures_nmf).unflatten(1, (PATCH_ROWS, SYNC_AUDIO_TOKENS_PER_SEGMENT)).transpose(1, 2)  # (n, 6, 12, c)
        return self.freq_attn_agg(columns.flatten(0, 1)).unflatten(0, columns.shape[:2])


class SynchformerAudio(nn.Module):
    """Sounds to vectors. `afeat_extractor` encodes pictures of segments, of which none knows of another."""

    def __init__(self, depth: int = DEPTH) -> None:
        super().__init__()
        self.spectrogram = SegmentSpectrogram()
        self.afeat_extractor = SoundSegmentEncoder(depth)

    def forward(self, wave_bs: Tensor) -> Tensor:
        """Encode every segment of 0.64 s; one starts every 0.32 s.

        Args:
            wave_bs: (clips, samples) at 16 kHz, full scale 1. Last samples that do not fill a segment are left out.
        Returns: (clips, segments, 6, 768) in the weights' dtype; 8 s give 24 segments.
        Raises: ValueError for another shape or fewer than 10240 samples.
        """
        if wave_bs.ndim != 2 or wave_bs.shape[1] < SEGMENT_SAMPLES:
            raise ValueError(
                f"sounds have shape {tuple(wave_bs.shape)}; want (clips, samples) with at least {SEGMENT_SAMPLES} samples at 16 kHz,"
                " which is one segment"
            )
        segments = wave_bs.unfold(1, SEGMENT_SAMPLES, SEGMENT_STEP)  # (b, segments, samples), a view
        dtype = self.afeat_extractor.ast.embeddings.cls_token.dtype
        pieces = segments.flatten(0, 1).split(MOST_SEGMENTS)
        done = [self.afeat_extractor(self.spectrogram(piece).to(dtype)) for piece in pieces]
        return torch.cat(done).unflatten(0, segments.shape[:2])


def load_synchformer_audio(state_dict: Mapping[str, Tensor]) -> SynchformerAudio:
    """Synchformer's audio branch with the weights of the published file, as `load_part`."""
    return load_part(SynchformerAudio, state_dict, PREFIX, "Synchformer's audio branch")
