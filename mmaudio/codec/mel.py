"""The log-mel front-end of both modes (codec.md section 1). Axes: b batch, s sample, k frequency bin, m band, f frame."""

import torch
import torch.nn.functional as F
import torchaudio.functional
from torch import Tensor, nn

from mmaudio.base.specs import MODES

POWER_FLOOR = 1e-9  # inside the square root of the magnitude
MEL_FLOOR = 1e-5


def mel_matrix(mode: str) -> Tensor:
    """Triangular filters on Slaney's mel scale with Slaney's area normalisation: (bands, bins), float32."""
    m = MODES[mode]
    bins = m.fft_samples // 2 + 1
    filters_km = torchaudio.functional.melscale_fbanks(bins, m.fmin_hz, m.fmax_hz, m.num_mels, m.rate_hz, norm="slaney", mel_scale="slaney")
    return filters_km.T.contiguous()


class MelSpectrogram(nn.Module):
    """Waveform (batch, samples) → log-mel (batch, bands, samples // hop); base 10 for 16k, natural for 44k.

    Magnitudes, not powers, floored at 1e-5. Raises: ValueError for a waveform too short to be reflected at its ends.
    """

    mel_basis: Tensor
    hann_window: Tensor

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.constants = MODES[mode]
        self.register_buffer("mel_basis", mel_matrix(mode), persistent=False)
        self.register_buffer("hann_window", torch.hann_window(self.constants.fft_samples), persistent=False)

    def forward(self, wave_bs: Tensor) -> Tensor:
        fft, hop = self.constants.fft_samples, self.constants.hop_samples
        pad = (fft - hop) // 2
        if wave_bs.shape[-1] <= pad:
            raise ValueError(f"waveform of {wave_bs.shape[-1]} samples; a mel spectrogram needs more than {pad}")
        wave_bs = wave_bs.to(self.hann_window).clamp(-1.0, 1.0)
        padded = F.pad(wave_bs[:, None], (pad, pad), mode="reflect")[:, 0]
        spectrum_bkf = torch.stft(padded, fft, hop, window=self.hann_window, center=False, return_complex=True)
        magnitude_bkf = (spectrum_bkf.real.square() + spectrum_bkf.imag.square() + POWER_FLOOR).sqrt()
        mel_bmf = (self.mel_basis @ magnitude_bkf).clamp_min(MEL_FLOOR)
        return mel_bmf.log10() if self.constants.log_base == 10.0 else mel_bmf.log()
