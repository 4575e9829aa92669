"""A backend turns sound, frames and text into features and latents back into sound; nothing to the right knows which."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from mmaudio.base.errors import UserError, nearest
from mmaudio.base.specs import DEFAULT_DURATION_S, AudioSpec
from mmaudio.codec import LiteCodec, LiteVocoder, MelSpectrogram
from mmaudio.encoders import LiteText, encode_scene, encode_sync

BACKENDS = ("pretrained", "lite")


class Codec(Protocol):
    """Log-mel (b, bands, frames) ↔ latents (b, channels, latents)."""

    def encode(self, mel: Tensor) -> tuple[Tensor, Tensor]: ...

    def decode(self, latent: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Backend:
    """Codec and encoders of one mode on one device. Latents and features are (batch, tokens, channels) out here."""

    name: str
    spec: AudioSpec
    device: torch.device
    mel: nn.Module
    codec: Codec
    vocoder: nn.Module
    scene: Callable[[Tensor], Tensor]
    sync: Callable[[Tensor], Tensor]
    text: Callable[[list[str]], Tensor]
    weights: dict[str, str] = field(default_factory=dict)  # file → checksum of what was loaded

    @torch.inference_mode()
    def encode_audio(self, wave_bs: Tensor) -> tuple[Tensor, Tensor]:
        """Waveform (b, samples) at the mode's rate → posterior mean and std, each (b, latents, channels)."""
        mean_bcn, std_bcn = self.codec.encode(self.mel(wave_bs.to(self.device)))
        return mean_bcn.transpose(1, 2).contiguous(), std_bcn.transpose(1, 2).contiguous()

    @torch.inference_mode()
    def encode_clip(self, frames_u8: Tensor) -> Tensor:
        """Scene frames (b, t, 3, 384, 384) uint8 → (b, t, 1024)."""
        return self.scene(frames_u8.to(self.device))

    @torch.inference_mode()
    def encode_sync(self, frames_u8: Tensor) -> Tensor:
        """Sync frames (b, f, 3, 224, 224) uint8 → (b, segments · 8, 768)."""
        return self.sync(frames_u8.to(self.device))

    @torch.inference_mode()
    def encode_text(self, captions: list[str]) -> Tensor:
        """Captions → (b, 77, 1024); the empty caption is the null condition."""
        return self.text(captions).to(self.device)

    @torch.inference_mode()
    def decode(self, latent_bnc: Tensor) -> Tensor:
        """Unnormalised latents (b, latents, channels) → waveform (b, samples)."""
        return self.vocoder(self.codec.decode(latent_bnc.to(self.device).transpose(1, 2)))[:, 0]


def build_backend(name: str, mode: str, *, duration_s: float = DEFAULT_DURATION_S, device: str | torch.device = "cpu") -> Backend:
    """The backend of a name (`lite`), for one mode, duration and device.

    Raises: UserError for an unknown name, and for `pretrained`, whose encoders this version does not have yet.
    """
    if name not in BACKENDS:
        raise UserError(f"no backend {name!r}{nearest(name, BACKENDS)}; known are {', '.join(BACKENDS)}")
    if name == "pretrained":
        raise UserError("the pretrained backend is not part of this version; choose the lite one: --backend lite (train.py: backend=lite)")
    place = torch.device(device)
    return Backend(
        name,
        AudioSpec(mode, duration_s),
        place,
        mel=MelSpectrogram(mode).eval().to(place),
        codec=LiteCodec(mode).eval().to(place),
        vocoder=LiteVocoder(mode).eval().to(place),
        scene=encode_scene,
        sync=encode_sync,
        text=LiteText(),
    )
