"""Media to columns of features on the backend's device: several clips at once on a GPU, each on its own on a CPU.

On a CPU a row depends on nothing but its clip, to the last bit; on a GPU batches differ by rounding.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmaudio.features.backend import Backend
from mmaudio.features.reading import Media

Row = dict[str, Tensor]  # column → the row's value, on the CPU


def num_at_once(backend: Backend, batch_size: int) -> int:
    """How many clips are encoded together."""
    return 1 if backend.device.type == "cpu" else batch_size


def encode_media(backend: Backend, media: Sequence[Media]) -> list[Row]:
    """The columns of each clip: mean and std, and for videos clip_features and sync_features."""
    waves = [clip if isinstance(clip, Tensor) else clip.wave for clip in media]
    columns = dict(zip(("mean", "std"), backend.encode_audio(_together(backend, waves)), strict=True))
    frames = [clip.frames_on(backend.device) for clip in media if not isinstance(clip, Tensor)]
    if frames:
        columns["clip_features"] = backend.encode_clip(torch.stack([clip_u8 for clip_u8, _ in frames]))
        columns["sync_features"] = backend.encode_sync(torch.stack([sync_u8 for _, sync_u8 in frames]))
    on_cpu = {name: column.cpu() for name, column in columns.items()}
    return [{name: column[number] for name, column in on_cpu.items()} for number in range(len(media))]


def _together(backend: Backend, waves: Sequence[Tensor | None]) -> Tensor:
    assert all(wave is not None for wave in waves), "a file without sound is rejected where it is read"
    return torch.stack([wave.to(backend.device, non_blocking=True) for wave in waves if wave is not None])
