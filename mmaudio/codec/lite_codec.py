"""The `lite` codec: a log-mel spectrogram as few cosine coefficients, and back to sound by phase retrieval. No weights.

Two mel frames make one latent, as in the pretrained codec: a cosine transform over the bands of their mean and of their
difference, low orders kept. It is lossy in spectral detail and exact in time to one mel frame.
Axes: b batch, m band, f mel frame, n latent, c coefficient, k frequency bin, s sample.
"""

import math

import torch
import torch.nn.functional as F
import torchaudio.functional
from torch import Tensor, nn

from mmaudio.base.specs import LATENT_DOWNSAMPLING, MODES
from mmaudio.codec.mel import MEL_FLOOR, mel_matrix

MEAN_SHARE = 0.8  # of the coefficients describe the mean of the two frames, the rest their difference
LEVEL_CENTRE, LEVEL_SPREAD = -2.4, 1.3  # of log10 mel, over natural sound …
LEVEL_TILT = 0.8  # … which falls by this much from the lowest band to the highest
POSTERIOR_STD = 0.02  # of a coefficient; a codec without weights has no posterior to learn
INVERSION_STEPS = 60
PHASE_STEPS = 48
PHASE_MOMENTUM = 0.99


def cosine_basis(num_kept: int, num_points: int) -> Tensor:
    """The first rows of the orthonormal DCT-II (Ahmed, Natarajan and Rao 1974): (kept, points)."""
    order = torch.arange(num_kept, dtype=torch.float64)[:, None]
    point = torch.arange(num_points, dtype=torch.float64)[None, :] + 0.5
    basis = torch.cos(math.pi / num_points * order * point) * math.sqrt(2.0 / num_points)
    basis[0] /= math.sqrt(2.0)
    return basis.float()


class LiteCodec(nn.Module):
    """Log-mel (batch, bands, frames) ↔ latents (batch, channels, frames / 2), by the interface of the pretrained VAE."""

    centre_m1: Tensor
    mean_basis_cm: Tensor
    difference_basis_cm: Tensor

    def __init__(self, mode: str) -> None:
        super().__init__()
        constants = MODES[mode]
        self.to_log10 = math.log10(constants.log_base)
        num_mean = round(MEAN_SHARE * constants.latent_channels)
        num_difference = constants.latent_channels - num_mean
        centre_m = LEVEL_CENTRE - LEVEL_TILT * torch.linspace(-0.5, 0.5, constants.num_mels)
        self.register_buffer("centre_m1", centre_m[:, None], persistent=False)
        self.register_buffer("mean_basis_cm", cosine_basis(num_mean, constants.num_mels), persistent=False)
        self.register_buffer("difference_basis_cm", cosine_basis(num_difference, constants.num_mels), persistent=False)

    def encode(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior mean and standard deviation, each (batch, channels, frames // 2); an odd last frame is dropped."""
        standard_bmf = (mel * self.to_log10 - self.centre_m1) / LEVEL_SPREAD
        frames = standard_bmf.shape[-1] // LATENT_DOWNSAMPLING * LATENT_DOWNSAMPLING
        first, second = standard_bmf[..., 0:frames:2], standard_bmf[..., 1:frames:2]
        mean = torch.cat((self.mean_basis_cm @ (first + second), self.difference_basis_cm @ (first - second)), dim=1) / math.sqrt(2.0)
        return mean, torch.full_like(mean, POSTERIOR_STD)

    def decode(self, latent: Tensor) -> Tensor:
        """Latents to log-mel, never below digital silence."""
        num_mean = self.mean_basis_cm.shape[0]
        total = self.mean_basis_cm.T @ latent[:, :num_mean]
        difference = self.difference_basis_cm.T @ latent[:, num_mean:]
        pair_bmn2 = torch.stack((total + difference, total - difference), dim=-1) / math.sqrt(2.0)
        log10_bmf = pair_bmn2.flatten(2) * LEVEL_SPREAD + self.centre_m1
        return log10_bmf.clamp_min(math.log10(MEL_FLOOR)) / self.to_log10


class LiteVocoder(nn.Module):
    """Log-mel (batch, bands, frames) → waveform (batch, 1, frames · hop), by the interface of the pretrained vocoder."""

    basis_mk: Tensor
    window: Tensor

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.constants = MODES[mode]
        self.register_buffer("basis_mk", mel_matrix(mode), persistent=False)
        self.register_buffer("window", torch.hann_window(self.constants.fft_samples), persistent=False)

    def magnitude(self, mel: Tensor) -> Tensor:
        """Non-negative magnitudes (batch, bins, frames) whose mel is the given one, by multiplicative updates.

        Source: Lee and Seung 2001, "Algorithms for non-negative matrix factorization", eq. 4 with the factor known.
        """
        target_bmf = self.constants.log_base**mel - MEL_FLOOR
        back_bkf = self.basis_mk.T @ target_bmf.clamp_min(0.0)
        gram_kk = self.basis_mk.T @ self.basis_mk
        magnitude_bkf = back_bkf.clone()
        for _ in range(INVERSION_STEPS):
            magnitude_bkf = magnitude_bkf * back_bkf / (gram_kk @ magnitude_bkf + 1e-12)
        return magnitude_bkf

    def forward(self, mel: Tensor) -> Tensor:
        fft, hop = self.constants.fft_samples, self.constants.hop_samples
        # Mel frame i is centred at (i + 1/2) hop, phase retrieval puts frame i at i · hop: one frame more at both ends,
        # and half a hop cut off in front, bring every frame to its place.
        padded_bkf = F.pad(self.magnitude(mel), (1, 1), mode="replicate")
        wave = torchaudio.functional.griffinlim(
            padded_bkf, self.window, fft, hop, fft, power=1.0, n_iter=PHASE_STEPS, momentum=PHASE_MOMENTUM, length=None, rand_init=False
        )
        wave_bs = wave[:, hop // 2 : hop // 2 + mel.shape[-1] * hop]
        return wave_bs.clamp(-1.0, 1.0)[:, None]
