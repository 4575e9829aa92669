"""What the pretrained backend can do: the published VAE, vocoders, Synchformer and CLIP, each loaded only where needed.

Weights are read by mmap and taken over, so that they are in memory once. Work is split to a memory budget: activations of one
item, measured in float32, times the items at once stay below it.
"""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmaudio.base.errors import UserError
from mmaudio.base.specs import CLIP_WIDTH, LATENT_DOWNSAMPLING, MODES, TEXT_WIDTH, torch_dtype
from mmaudio.codec import MelSpectrogram, load_vae, load_vocoder
from mmaudio.codec.bigvgan import read_config
from mmaudio.distributed.devices import compile_
from mmaudio.encoders import Clip, load_clip, load_synchformer
from mmaudio.features.backend_plan import Abilities, BackendPlan
from mmaudio.files.tensor_files import read_tensor_file
from mmaudio.weights import checksum, find_row, locate

# Largest activations of one item in float32, in MB (docs/performance.md)
FRAME_MB = 90.0  # CLIP, a frame
SEGMENT_MB = 105.0  # Synchformer, a segment
ENCODED_SECOND_MB = 15.0  # VAE encoder, a second of sound
DECODED_SECOND_MB = 50.0  # VAE decoder and vocoder, a second of sound
CAPTION_MB = 4.0  # CLIP, a caption
CPU_MEMORY_GB = 0.5
CUDA_SHARE, CUDA_MEMORY_GB = 0.5, 16.0  # of the memory that is free, and at most


def memory_budget_gb(device: torch.device) -> float:
    """What the networks may take beyond their weights where nobody says."""
    if device.type != "cuda":
        return CPU_MEMORY_GB
    free_bytes, _ = torch.cuda.mem_get_info(device)
    return min(CUDA_MEMORY_GB, CUDA_SHARE * free_bytes / 1e9)


class _Loader:
    """Finds, reads and places weights, and remembers what was loaded."""

    def __init__(self, plan: BackendPlan, device: torch.device) -> None:
        self.plan, self.device = plan, device
        self.mode, self.dtype = plan.spec.mode, torch_dtype(plan.dtype)
        self.loaded: dict[str, str] = {}

    def path(self, name: str) -> Path:
        path = locate(name, self.plan.places.get(name))
        self.loaded[name] = checksum(path)
        return path

    def ready(self, network: nn.Module) -> Any:
        return network.to(self.device, self.dtype)

    def at_once(self, item_mb: float) -> int:
        """How many items the budget takes."""
        budget_gb = self.plan.memory_gb if self.plan.memory_gb is not None else memory_budget_gb(self.device)
        return max(1, int(1e3 * budget_gb * 4 / (item_mb * self.dtype.itemsize)))

    def compile_if_asked_(self, *networks: nn.Module) -> None:
        for network in networks if self.plan.compiled else ():
            compile_(network)


def load_abilities(plan: BackendPlan, device: torch.device, needs: Collection[str]) -> tuple[Abilities, dict[str, str]]:
    """What is needed of the pretrained networks, and the checksums of what was loaded, by weight.

    Raises: UserError for weights that are missing, torn, or of another network.
    """
    loader = _Loader(plan, device)
    clip = _clip(loader, needs) if {"scene", "text"} & set(needs) else None
    build: dict[str, Callable[[], Callable[..., Any]]] = {
        "audio": lambda: _audio(loader),
        "scene": lambda: _scene(loader, clip),
        "sync": lambda: _sync(loader),
        "text": lambda: _text(loader, clip),
        "sound": lambda: _sound(loader),
    }
    return Abilities(**{name: make() for name, make in build.items() if name in needs}), loader.loaded


def _clip(loader: _Loader, needs: Collection[str]) -> Clip:
    path = loader.path("clip")
    clip = load_clip(path, image="scene" in needs, text="text" in needs)
    found = (clip.image_width if clip.visual else CLIP_WIDTH, clip.text_width if clip.transformer else TEXT_WIDTH)
    if found != (CLIP_WIDTH, TEXT_WIDTH):
        raise UserError(f"the CLIP in {path} gives vectors of {found[0]} and {found[1]}; features are {CLIP_WIDTH} and {TEXT_WIDTH} wide")
    return loader.ready(clip)


def _scene(loader: _Loader, clip: Clip | None) -> Callable[[Tensor], Tensor]:
    assert clip is not None
    assert clip.visual is not None
    network, num_at_once = clip, loader.at_once(FRAME_MB)
    loader.compile_if_asked_(clip.visual)

    def scene(frames_u8: Tensor) -> Tensor:
        features = [network.encode_images(part.float() / 255.0).float() for part in frames_u8.flatten(0, 1).split(num_at_once)]
        return torch.cat(features).unflatten(0, frames_u8.shape[:2])

    return scene


def _sync(loader: _Loader) -> Callable[[Tensor], Tensor]:
    network = loader.ready(load_synchformer(read_tensor_file(loader.path("synchformer"))))
    loader.compile_if_asked_(network.vfeat_extractor)
    num_at_once = loader.at_once(SEGMENT_MB)

    def sync(frames_u8: Tensor) -> Tensor:
        signed = (part.to(loader.dtype).div_(127.5).sub_(1.0) for part in frames_u8.split(1))
        return torch.cat([network(clip, max_segments=num_at_once).float() for clip in signed])

    return sync


def _text(loader: _Loader, clip: Clip | None) -> Callable[[list[str]], Tensor]:
    assert clip is not None
    assert clip.transformer is not None
    network, num_at_once = clip, loader.at_once(CAPTION_MB)
    loader.compile_if_asked_(clip.transformer)

    def text(captions: list[str]) -> Tensor:
        parts = [captions[start : start + num_at_once] for start in range(0, len(captions), num_at_once)]
        return torch.cat([network.encode_text(part).float() for part in parts])

    return text


def _audio(loader: _Loader) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    mel = MelSpectrogram(loader.mode).eval().to(loader.device)  # float32, whatever the codec computes in
    state = read_tensor_file(loader.path(f"vae_{loader.mode}"))
    vae = loader.ready(load_vae(state, loader.mode, with_decoder=False))
    loader.compile_if_asked_(vae.encoder)
    rate_hz = MODES[loader.mode].rate_hz

    def audio(wave_bs: Tensor) -> tuple[Tensor, Tensor]:
        num_at_once = loader.at_once(ENCODED_SECOND_MB * wave_bs.shape[1] / rate_hz)
        parts = [vae.encode(mel(part).to(loader.dtype)) for part in wave_bs.split(num_at_once)]
        mean_bcn, std_bcn = (torch.cat(each).float() for each in zip(*parts, strict=True))
        return mean_bcn.transpose(1, 2).contiguous(), std_bcn.transpose(1, 2).contiguous()

    return audio


def _sound(loader: _Loader) -> Callable[[Tensor], Tensor]:
    state = read_tensor_file(loader.path(f"vae_{loader.mode}"))
    vae = loader.ready(load_vae(state, loader.mode, with_encoder=False))
    vocoder = loader.ready(_vocoder(loader))
    loader.compile_if_asked_(vae.decoder, vocoder)
    constants = MODES[loader.mode]
    latent_s = LATENT_DOWNSAMPLING * constants.hop_samples / constants.rate_hz

    def sound(latent_bnc: Tensor) -> Tensor:
        num_at_once = loader.at_once(DECODED_SECOND_MB * latent_bnc.shape[1] * latent_s)
        latents_bcn = latent_bnc.transpose(1, 2).to(loader.dtype).split(num_at_once)
        return torch.cat([vocoder(vae.decode(part))[:, 0].float() for part in latents_bcn])

    return sound


def _vocoder(loader: _Loader) -> nn.Module:
    name = f"vocoder_{loader.mode}"
    path = loader.path(name)
    if not path.is_dir():
        return load_vocoder(read_tensor_file(path), loader.mode)
    settings, tensors = (path / file for file in find_row(name).files)  # as the hub has it: settings beside weights
    return load_vocoder(read_tensor_file(tensors), loader.mode, config=read_config(settings))
