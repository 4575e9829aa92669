"""Backend: sound, frames and text to features, latents to sound."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mmaudio.base.specs import DEFAULT_DURATION_S, AudioSpec
from mmaudio.codec import LiteCodec, LiteVocoder, MelSpectrogram
from mmaudio.encoders import LiteText, encode_scene, encode_sync
from mmaudio.features.backend_plan import ABILITIES, Abilities, BackendPlan
from mmaudio.features.pretrained import load_abilities

# ---- The lite backend: no weights, no network, any device


def lite_abilities(mode: str, device: torch.device, needs: Collection[str]) -> Abilities:
    """What is needed of it, on a device."""
    mel = MelSpectrogram(mode).eval().to(device)
    codec, vocoder = LiteCodec(mode).eval().to(device), LiteVocoder(mode).eval().to(device)

    def audio(wave_bs: Tensor) -> tuple[Tensor, Tensor]:
        mean_bcn, std_bcn = codec.encode(mel(wave_bs))
        return mean_bcn.transpose(1, 2).contiguous(), std_bcn.transpose(1, 2).contiguous()

    def sound(latent_bnc: Tensor) -> Tensor:
        return vocoder(codec.decode(latent_bnc.transpose(1, 2)))[:, 0]

    can_do = {"audio": audio, "scene": encode_scene, "sync": encode_sync, "text": LiteText(), "sound": sound}
    return Abilities(**{name: ability for name, ability in can_do.items() if name in needs})  # type: ignore[arg-type]


# ---- Either backend


@dataclass(frozen=True)
class Backend:
    """Codec and encoders of one mode on one device. Latents and features are (batch, tokens, channels) out here."""

    plan: BackendPlan
    device: torch.device
    abilities: Abilities
    weights: dict[str, str] = field(default_factory=dict)  # weight → checksum of what was loaded

    @classmethod
    def load(cls, plan: BackendPlan, device: torch.device, needs: Collection[str] = ABILITIES) -> "Backend":
        """Load what is needed, of ABILITIES, fetching weights that are missing. Raises: UserError for weights missing or wrong."""
        if plan.name == "lite":
            return cls(plan, device, lite_abilities(plan.spec.mode, device, needs))
        abilities, weights = load_abilities(plan, device, needs)
        return cls(plan, device, abilities, weights)

    @property
    def name(self) -> str:
        return self.plan.name

    @property
    def spec(self) -> AudioSpec:
        return self.plan.spec

    def _able(self, name: str) -> Callable[..., Any]:
        ability = getattr(self.abilities, name)
        if ability is None:
            raise ValueError(f"this backend was built without {name!r}; name it in `needs`")
        return ability

    @torch.inference_mode()
    def encode_audio(self, wave_bs: Tensor) -> tuple[Tensor, Tensor]:
        """Waveform (b, samples) at the mode's rate → posterior mean and std, each (b, latents, channels)."""
        return self._able("audio")(wave_bs.to(self.device))

    @torch.inference_mode()
    def encode_clip(self, frames_u8: Tensor) -> Tensor:
        """Scene frames (b, t, 3, 384, 384) uint8 → (b, t, 1024)."""
        return self._able("scene")(frames_u8.to(self.device))

    @torch.inference_mode()
    def encode_sync(self, frames_u8: Tensor) -> Tensor:
        """Sync frames (b, f, 3, 224, 224) uint8 → (b, segments · 8, 768)."""
        return self._able("sync")(frames_u8.to(self.device))

    @torch.inference_mode()
    def encode_text(self, captions: list[str]) -> Tensor:
        """Captions → (b, 77, 1024); the empty caption is the null condition."""
        return self._able("text")(captions).to(self.device)

    @torch.inference_mode()
    def decode(self, latent_bnc: Tensor) -> Tensor:
        """Unnormalised latents (b, latents, channels) → waveform (b, samples)."""
        return self._able("sound")(latent_bnc.to(self.device))


def build_backend(
    name: str,
    mode: str,
    *,
    duration_s: float = DEFAULT_DURATION_S,
    device: str | torch.device = "cpu",
    needs: Collection[str] = ABILITIES,
    **options: Any,
) -> Backend:
    """The backend of a name, for one mode, duration and device, with no more loaded than `needs`, of ABILITIES.

    Args:
        options: dtype, places, memory_gb, compiled, as in `BackendPlan`.
    Raises: UserError as `BackendPlan` and `Backend.load`.
    """
    return Backend.load(BackendPlan(name, AudioSpec(mode, duration_s), **options), torch.device(device), needs)
