"""Which backend, with what abilities, by options or by settings; no torch."""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from mmaudio.base.errors import UserError, nearest
from mmaudio.base.specs import DTYPES, AudioSpec
from mmaudio.settings.schema import BaseSettings
from mmaudio.weights import check_place

if TYPE_CHECKING:  # help names backends without torch
    from torch import Tensor

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

    audio: "Callable[[Tensor], tuple[Tensor, Tensor]] | None" = None
    scene: "Callable[[Tensor], Tensor] | None" = None
    sync: "Callable[[Tensor], Tensor] | None" = None
    text: "Callable[[list[str]], Tensor] | None" = None
    sound: "Callable[[Tensor], Tensor] | None" = None


ABILITIES = tuple(ability.name for ability in fields(Abilities))


@dataclass(frozen=True)
class BackendPlan:
    """Which backend, for which clips, and how the pretrained one computes and is loaded.

    Args:
        dtype: arithmetic of the pretrained networks, of mmaudio.base.specs.DTYPES.
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


# ---- By options

_PLACE = "NAME=PLACE"


def add_backend_options(parser: argparse.ArgumentParser) -> None:
    """--dtype, --pretrained, --memory_gb and --compile."""
    parser.add_argument("--dtype", choices=list(DTYPES), default="fp32", help="arithmetic of the pretrained networks (default fp32)")
    parser.add_argument(
        "--pretrained",
        metavar=_PLACE,
        action="append",
        default=[],
        help="a weight of `mmaudio weights list` from a path, or from a repository OWNER/REPO[@REVISION] of the hub; repeatable",
    )
    parser.add_argument("--memory_gb", type=float, default=None, help="for the pretrained networks beyond their weights")
    parser.add_argument("--compile", action="store_true", help="compile the pretrained networks (pays in long runs on a GPU)")


def read_places(words: list[str], option: str = "--pretrained") -> dict[str, str]:
    """Weight → place, as an option that may be repeated names them. Raises: UserError for a word that does not read NAME=PLACE."""
    pairs = [word.partition("=") for word in words]
    for name, _, place in pairs:
        if not name or not place:
            raise UserError(f"{option} is {name!r}; want {_PLACE}, such as synchformer=models/my_weights.pth")
    return {name: place for name, _, place in pairs}


def backend_keywords(options: argparse.Namespace) -> dict[str, Any]:
    """Keywords of a `BackendPlan` that these options give. Raises: UserError for a word that cannot be read."""
    return {"dtype": options.dtype, "places": read_places(options.pretrained), "memory_gb": options.memory_gb, "compiled": options.compile}


# ---- By the settings of a run

_CKPT_KEYS = {  # weight → the setting that says where it is
    "vae_16k": "vae_16k_ckpt",
    "vae_44k": "vae_44k_ckpt",
    "vocoder_16k": "bigvgan_vocoder_ckpt",
    "vocoder_44k": "bigvgan_44k_ckpt",
    "synchformer": "synchformer_ckpt",
    "clip": "clip_ckpt",
}


def places_of(settings: BaseSettings) -> dict[str, str]:
    """Weight → where the settings say it is, for those they say anything of."""
    default = BaseSettings()
    return {weight: getattr(settings, key) for weight, key in _CKPT_KEYS.items() if getattr(settings, key) != getattr(default, key)}


def backend_keywords_of_run(settings: BaseSettings) -> dict[str, Any]:
    """Keywords of a `BackendPlan`: the pretrained weights come from where the run's settings say, if they say anything."""
    return {"places": places_of(settings) if settings.backend == "pretrained" else {}}
