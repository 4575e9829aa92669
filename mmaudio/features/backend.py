"""A backend turns sound, frames and text into features and latents back into sound; nothing to the right knows which."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mmaudio.base.errors import UserError, nearest
from mmaudio.base.specs import DEFAULT_DURATION_S, AudioSpec
from mmaudio.weights import check_place

BACKENDS = ("pretrained", "lite")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
ABILITIES = ("audio", "scene", "sync", "text", "sound")
FOR_AUDIO = ("audio", "text")  # what each stage needs of a backend
FOR_VIDEO = ("audio", "scene", "sync", "text")
FOR_GENERATION = ("scene", "sync", "text", "sound")
FOR_PROMPTS = ("text", "sound")
FOR_DECODING = ("sound",)


@dataclass(frozen=True)
class Abilities:
    """What a backend can do; None for what it was not asked to load. All results are float32 on the backend's device.

    audio: waveform (b, samples) → posterior mean and std, each (b, latents, channels).
    scene: frames (b, t, 3, 384, 384) uint8 → (b, t, 1024). sync: frames (b, f, 3, 224, 224) uint8 → (b, segments · 8, 768).
    text: captions → (b, 77, 1024). sound: latents (b, latents, channels) → waveform (b, samples).
    """

    audio: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None
    scene: Callable[[Tensor], Tensor] | None = None
    sync: Callable[[Tensor], Tensor] | None = None
    text: Callable[[list[str]], Tensor] | None = None
    sound: Callable[[Tensor], Tensor] | None = None


@dataclass(frozen=True)
class BackendPlan:
    """Which backend, for which clips, and how the pretrained one computes and is loaded.

    Args:
        dtype: arithmetic of the pretrained networks, of DTYPES.
        places: weight → path, or repository of the hub, instead of the published one (see mmaudio.weights).
        memory_gb: what the pretrained networks may take at once beyond their weights; None: a fitting part of the device's.
        compiled: compile the pretrained networks.
    Raises: UserError for an unknown name or dtype, a place where no such weight is, and for options the lite backend has no use for.
    """

    name: str
    spec: AudioSpec
    dtype: str = "fp32"
    places: Mapping[str, str] = field(default_factory=dict)
    memory_gb: float | None = None
    compiled: bool = False

    def __post_init__(self) -> None:
        if self.name not in BACKENDS:
            raise UserError(f"no backend {self.name!r}{nearest(self.name, BACKENDS)}; known are {', '.join(BACKENDS)}")
        if self.dtype not in DTYPES:
            raise UserError(f"no dtype {self.dtype!r}{nearest(self.dtype, DTYPES)}; known are {', '.join(DTYPES)}")
        if self.name == "lite" and (self.dtype != "fp32" or self.places):
            raise UserError("the lite backend has no weights and computes in fp32; leave dtype and places of weights out")
        if self.memory_gb is not None and not self.memory_gb > 0:
            raise UserError(f"the memory for the pretrained networks is {self.memory_gb:g} GB; want more than 0")
        for weight, place in self.places.items():
            check_place(weight, place)

    def build(self, device: torch.device, needs: Collection[str] = ABILITIES) -> "Backend":
        """Load what is needed, of ABILITIES, fetching weights that are missing. Raises: UserError for weights missing or wrong."""
        from mmaudio.features.lite import lite_abilities  # each backend is imported only where it is asked for
        from mmaudio.features.pretrained import load_abilities

        if self.name == "lite":
            return Backend(self, device, lite_abilities(self.spec.mode, device, needs))
        abilities, weights = load_abilities(self, device, needs)
        return Backend(self, device, abilities, weights)


@dataclass(frozen=True)
class Backend:
    """Codec and encoders of one mode on one device. Latents and features are (batch, tokens, channels) out here."""

    plan: BackendPlan
    device: torch.device
    abilities: Abilities
    weights: dict[str, str] = field(default_factory=dict)  # weight → checksum of what was loaded

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
    Raises: UserError as `BackendPlan` and its `build`.
    """
    return BackendPlan(name, AudioSpec(mode, duration_s), **options).build(torch.device(device), needs)
