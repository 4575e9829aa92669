"""The networks between media and features, one by one: how each is built with random weights, and what it is given here.

Transformers may be built with some of their blocks, which are alike: what these take, and their share of the operations, tell
what all of them take.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mmaudio.base.specs import (
    CLIP_SIDE_PX,
    DEFAULT_DURATION_S,
    LATENT_DOWNSAMPLING,
    MODES,
    SYNC_SEGMENT_FRAMES,
    SYNC_SIDE_PX,
    SYNC_TOKENS_PER_SEGMENT,
    AudioSpec,
)
from mmaudio.codec import BigVGAN, MelVAE
from mmaudio.codec.bigvgan import PUBLISHED
from mmaudio.encoders import Synchformer
from mmaudio.encoders.clip import MEAN, STD, Clip
from mmaudio.encoders.synchformer import DEPTH

CLIP_MODEL = "ViT-H-14-378-quickgelu"  # open_clip's name of the published one's sizes
IMAGE_BLOCKS, TEXT_BLOCKS = 32, 24
CAPTION = "a dog barking in the distance"
CLIP_SPEC = AudioSpec("16k", DEFAULT_DURATION_S)  # the extracted clip that whole clips are counted as
SECOND = "s of sound"


@dataclass(frozen=True)
class Network:
    """A network and its input. `run` takes the module and what `inputs` gives, which lies on torch's default device."""

    name: str
    item: str  # figures are per this
    build: Callable[[int], nn.Module]  # with so many blocks
    run: Callable[[Any, Any], object]
    inputs: Callable[[], Any]
    num_items: float  # in the input
    part_compiled: Callable[[Any], nn.Module]  # the part that extraction and generation compile
    num_blocks: int = 1  # built here …
    of_blocks: int = 1  # … of how many
    per_clip: float = 0.0  # items that extracting an 8 s clip at 16 kHz takes

    @property
    def amount(self) -> str:
        """What is measured, in words."""
        blocks = "" if self.num_blocks == self.of_blocks else f", {self.num_blocks} of {self.of_blocks} blocks"
        return f"{self.num_items:.3g} at once{blocks}"

    def ready(self, device: torch.device, dtype: torch.dtype) -> nn.Module:
        """Built for inference, as it is measured."""
        with device:
            return self.build(self.num_blocks).eval().requires_grad_(False).to(device, dtype)

    def flops(self, num_blocks: int) -> int:
        """Of the whole input, with so many blocks; counted on tensors without content."""
        meta = torch.device("meta")
        with meta, torch.no_grad(), FlopCounterMode(display=False) as counter:
            self.run(self.build(num_blocks).eval().requires_grad_(False).to(meta), self.inputs())
        return counter.get_total_flops()


def clip_config(image_blocks: int = IMAGE_BLOCKS, text_blocks: int = TEXT_BLOCKS) -> dict[str, Any]:
    """open_clip's configuration of the published CLIP, with fewer blocks if asked."""
    from open_clip import get_model_config  # takes seconds

    config = get_model_config(CLIP_MODEL)
    towers = {"vision_cfg": config["vision_cfg"] | {"layers": image_blocks}, "text_cfg": config["text_cfg"] | {"layers": text_blocks}}
    return config | towers


def _clip(*, image_blocks: int = 1, text_blocks: int = 1, image: bool) -> Clip:
    from open_clip.model import CLIP

    return Clip(CLIP(**clip_config(image_blocks, text_blocks)), MEAN, STD, image=image, text=not image)


def clip_images(num_frames: int, num_blocks: int = IMAGE_BLOCKS) -> Network:
    return Network(
        name="CLIP ViT-H/14, images",
        item="frame",
        build=lambda num_blocks: _clip(image_blocks=num_blocks, image=True),
        run=lambda clip, frames: clip.encode_images(frames),
        inputs=lambda: torch.rand(num_frames, 3, CLIP_SIDE_PX, CLIP_SIDE_PX),
        num_items=num_frames,
        part_compiled=lambda clip: clip.visual,
        num_blocks=num_blocks,
        of_blocks=IMAGE_BLOCKS,
        per_clip=CLIP_SPEC.num_clip_frames,
    )


def clip_text(num_captions: int, num_blocks: int = TEXT_BLOCKS) -> Network:
    return Network(
        name="CLIP ViT-H/14, text",
        item="caption",
        build=lambda num_blocks: _clip(text_blocks=num_blocks, image=False),
        run=lambda clip, captions: clip.encode_text(captions),
        inputs=lambda: [CAPTION] * num_captions,
        num_items=num_captions,
        part_compiled=lambda clip: clip.transformer,
        num_blocks=num_blocks,
        of_blocks=TEXT_BLOCKS,
        per_clip=1,
    )


def synchformer(num_segments: int, num_blocks: int = DEPTH) -> Network:
    return Network(
        name="Synchformer",
        item="segment",
        build=Synchformer,
        run=lambda network, frames: network(frames),
        inputs=lambda: torch.rand(num_segments, SYNC_SEGMENT_FRAMES, 3, SYNC_SIDE_PX, SYNC_SIDE_PX) * 2 - 1,
        num_items=num_segments,
        part_compiled=lambda network: network.vfeat_extractor,
        num_blocks=num_blocks,
        of_blocks=DEPTH,
        per_clip=CLIP_SPEC.num_sync_tokens // SYNC_TOKENS_PER_SEGMENT,
    )


def _vae(mode: str, **halves: bool) -> MelVAE:
    """With weights about as large as the normalised ones of the published file."""
    vae = MelVAE(mode, **halves)
    for weight in vae.parameters():
        if weight.ndim > 1:
            nn.init.normal_(weight, std=weight[0].numel() ** -0.5)
    return vae


def _latents(mode: str, duration_s: float) -> tuple[int, float]:
    """Latents of about so much sound, and how many seconds they are."""
    latent_s = LATENT_DOWNSAMPLING * MODES[mode].hop_samples / MODES[mode].rate_hz
    num_latents = max(1, round(duration_s / latent_s))
    return num_latents, num_latents * latent_s


def vae_encoder(mode: str, num_sounds: int, duration_s: float = DEFAULT_DURATION_S) -> Network:
    num_latents, sound_s = _latents(mode, duration_s)
    return Network(
        name=f"VAE encoder, {mode}",
        item=SECOND,
        build=lambda _: _vae(mode, with_decoder=False),
        run=lambda vae, mel: vae.encode(mel),
        inputs=lambda: torch.randn(num_sounds, MODES[mode].num_mels, LATENT_DOWNSAMPLING * num_latents),
        num_items=num_sounds * sound_s,
        part_compiled=lambda vae: vae.encoder,
        per_clip=DEFAULT_DURATION_S if mode == CLIP_SPEC.mode else 0.0,
    )


def vae_decoder(mode: str, num_sounds: int, duration_s: float = DEFAULT_DURATION_S) -> Network:
    num_latents, sound_s = _latents(mode, duration_s)
    return Network(
        name=f"VAE decoder, {mode}",
        item=SECOND,
        build=lambda _: _vae(mode, with_encoder=False),
        run=lambda vae, latents: vae.decode(latents),
        inputs=lambda: torch.randn(num_sounds, MODES[mode].latent_channels, num_latents),
        num_items=num_sounds * sound_s,
        part_compiled=lambda vae: vae.decoder,
    )


def vocoder(mode: str, num_sounds: int, duration_s: float = DEFAULT_DURATION_S) -> Network:
    num_latents, sound_s = _latents(mode, duration_s)
    return Network(
        name=f"vocoder, {mode}",
        item=SECOND,
        build=lambda _: BigVGAN(PUBLISHED[mode]),
        run=lambda network, mel: network(mel),
        inputs=lambda: torch.randn(num_sounds, MODES[mode].num_mels, LATENT_DOWNSAMPLING * num_latents),
        num_items=num_sounds * sound_s,
        part_compiled=lambda network: network,
    )


def networks_for(device: torch.device) -> list[Network]:
    """All of them, each with an input that takes about a second on two cores, or fills a GPU."""
    if device.type == "cpu":
        encoders = [clip_images(1, num_blocks=2), synchformer(1, num_blocks=2), clip_text(1, num_blocks=4)]
        return [*encoders, *(make(mode, 1) for make in (vae_encoder, vae_decoder) for mode in MODES), *(vocoder(m, 1, 0.2) for m in MODES)]
    encoders = [clip_images(16), synchformer(24), clip_text(64)]
    return [*encoders, *(make(mode, 16) for make in (vae_encoder, vae_decoder) for mode in MODES), *(vocoder(m, 4) for m in MODES)]
