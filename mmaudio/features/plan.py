"""Which backend computes features, what there is to ask of it, and how it is to be loaded; checked before anything is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields

from torch import Tensor

from mmaudio.base.dtypes import DTYPES
from mmaudio.base.errors import UserError, nearest
from mmaudio.base.specs import AudioSpec
from mmaudio.weights import check_place

BACKENDS = ("pretrained", "lite")
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


ABILITIES = tuple(ability.name for ability in fields(Abilities))


@dataclass(frozen=True)
class BackendPlan:
    """Which backend, for which clips, and how the pretrained one computes and is loaded.

    Args:
        dtype: arithmetic of the pretrained networks, of mmaudio.base.dtypes.DTYPES.
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
