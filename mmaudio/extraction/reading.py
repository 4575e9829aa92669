"""A file read once for all its rows, and encoded to columns."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from mmaudio.base.specs import AudioSpec
from mmaudio.extraction.inputs import Inputs
from mmaudio.features.backend import Backend
from mmaudio.media.audio import MediaError
from mmaudio.media.audio_clips import Span, read_training_clips
from mmaudio.media.video import VideoMedia, read_video
from mmaudio.media.yuv_video import PlanarMedia, pageable_room, read_planar_video

Media = VideoMedia | PlanarMedia | Tensor  # of a video, or the wave (samples,) of a clip of a recording
FileReader = Callable[[Sequence[int]], list[Media | MediaError]]


@dataclass(frozen=True)
class ReadingRules:
    """How media become what the encoders see; part of what made a store."""

    normalised: bool  # whether each sound track is brought to one peak
    frame_rule: str = "exact"
    resize: str = "host"  # where frames get their sizes: `host`, or `device` from the planes of the decoded picture


def file_reader(inputs: Inputs, spec: AudioSpec, rules: ReadingRules, *, pinned: bool = False) -> FileReader:
    """A function from the numbers of inputs that share a file to what each holds, or why it cannot be used.

    It raises MediaError for a file that cannot be used at all.

    Args:
        pinned: hand on page-locked memory, from where a GPU fetches while it computes.
    """

    def clips(numbers: Sequence[int]) -> list[Media | MediaError]:
        items = [inputs.items[number] for number in numbers]
        spans = [Span(item.start_sample, item.end_sample, item.padded_samples) for item in items]
        return list(read_training_clips(inputs.path(items[0]), spans, spec))

    read_one = partial(read_planar_video, new_room=_pinned_room if pinned else pageable_room) if rules.resize == "device" else read_video

    def video(numbers: Sequence[int]) -> list[Media | MediaError]:
        path = inputs.path(inputs.items[numbers[0]])
        media = read_one(path, spec, with_sound=True, normalise=rules.normalised, frame_rule=rules.frame_rule)
        return [media] * len(numbers)

    read = clips if inputs.kind == "audio" else video
    return _pinning(read) if pinned else read


def _pinned_room(num_frames: int, packed_bytes: int) -> Tensor:
    return torch.empty(num_frames, packed_bytes, dtype=torch.uint8, pin_memory=True)  # of a pool, so that its pages are there


def _pinning(read: FileReader) -> FileReader:
    def pinned(numbers: Sequence[int]) -> list[Media | MediaError]:
        return [media if isinstance(media, MediaError) else media.pin_memory() for media in read(numbers)]

    return pinned


# ---- Media to columns, on the backend's device: several clips at once on a GPU, each on its own on a CPU

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
