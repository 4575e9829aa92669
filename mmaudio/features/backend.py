"""A backend turns sound, frames and text into features and latents back into sound; nothing to the right knows which."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mmaudio.base.specs import DEFAULT_DURATION_S, AudioSpec
from mmaudio.features.lite import lite_abilities
from mmaudio.features.plan import ABILITIES, Abilities, BackendPlan
from mmaudio.features.pretrained import load_abilities


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
