"""LAION-CLAP's vector of a sound, to be compared with that of a caption (Wu et al. 2023, 2211.06687).

Axes: n sound, s sample, f frame, k frequency, m mel band.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
import torchaudio.functional
from torch import Tensor, nn

from mmaudio.metrics.judges.clap_layout import AUDIO, load_branch, read_published
from mmaudio.metrics.judges.waves import read_centred
from mmaudio.weights import locate

RATE_HZ = 48_000
NUM_SAMPLES = 480_000  # 10 s
FFT_SAMPLES, HOP_SAMPLES, NUM_BANDS = 1024, 480, 64
LOWEST_HZ, HIGHEST_HZ = 50.0, 14_000.0
POWER_FLOOR = 1e-10


@lru_cache(maxsize=1)
def _mel_filters() -> Tensor:
    """(k, m), of Slaney's scale and area."""
    num_bins = FFT_SAMPLES // 2 + 1
    return torchaudio.functional.melscale_fbanks(num_bins, LOWEST_HZ, HIGHEST_HZ, NUM_BANDS, RATE_HZ, norm="slaney", mel_scale="slaney")


def fill_ten_seconds(wave: Tensor) -> Tensor:
    """(samples,) → (480000,): repeated as often as it fits whole, then silence; of a longer sound the start.

    The published loader cuts a longer sound at random.
    """
    repeats = max(1, NUM_SAMPLES // len(wave))
    wave = wave.repeat(repeats)[:NUM_SAMPLES]
    return F.pad(wave, (0, NUM_SAMPLES - len(wave)))


def log_mel(wave_ns: Tensor) -> Tensor:
    """(n, s) at 48 kHz → decibels (n, f, m), one frame every 10 ms, full scale 1."""
    window = torch.hann_window(FFT_SAMPLES, device=wave_ns.device)
    spectrum_nkf = torch.stft(wave_ns, FFT_SAMPLES, HOP_SAMPLES, window=window, pad_mode="reflect", return_complex=True)
    power_nfk = spectrum_nkf.abs().square().transpose(1, 2)
    return 10.0 * torch.log10((power_nfk @ _mel_filters().to(wave_ns.device)).clamp_min(POWER_FLOOR))


class ClapSound:
    """Waves to unit vectors."""

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        self.network, self.device = network.to(device), device

    def __call__(self, waves: Sequence[Tensor]) -> dict[str, Tensor]:
        """(samples,) at 48 kHz each, brought to 10 s → (n, 512) of length 1."""
        wave_ns = torch.stack([fill_ten_seconds(wave) for wave in waves]).to(self.device)
        embeddings = self.network(input_features=log_mel(wave_ns)[:, None]).audio_embeds
        return {"clap_laion_audio": F.normalize(embeddings, dim=-1)}


def read(path: Path, duration_s: float) -> Tensor:
    """(samples,) of a file's sound at 48 kHz. Raises: MediaError."""
    return read_centred(path, RATE_HZ, duration_s)


def load(places: Mapping[str, str | Path], device: torch.device) -> ClapSound:
    """The sound branch on a device. Raises: UserError for weights that are missing, torn or of another network."""
    return ClapSound(load_branch(read_published(locate("clap_laion", places.get("clap_laion"))), AUDIO), device)
