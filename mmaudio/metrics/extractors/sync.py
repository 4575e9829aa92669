"""Synchformer for DeSync."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from mmaudio.base.specs import CLIP_FPS, SYNC_FPS
from mmaudio.encoders import Synchformer, by_segment, load_synchformer
from mmaudio.encoders.synchformer_audio import RATE_HZ, SynchformerAudio, load_synchformer_audio
from mmaudio.files.tensor_files import read_state_dict
from mmaudio.media.containers import decode_tracks, opened_media
from mmaudio.media.frame_selection import ExactPicker, exact_seconds
from mmaudio.media.frame_streams import PictureTrack, scene_and_sync
from mmaudio.metrics.extractors.waves import read_exactly
from mmaudio.weights import locate


class SyncSound:
    """Waves of one length to vectors."""

    def __init__(self, network: SynchformerAudio, device: torch.device) -> None:
        self.network, self.device = network.to(device), device

    def __call__(self, waves: Sequence[Tensor]) -> dict[str, Tensor]:
        """(samples,) at 16 kHz each → (n, segments, 6, 768)."""
        return {"synchformer_audio": self.network(torch.stack(list(waves)).to(self.device)).float()}


def read_sync_sound(path: Path, duration_s: float) -> Tensor:
    """Exactly int(16000 · duration) samples of a file's sound. Raises: MediaError, also for a shorter one."""
    return read_exactly(path, RATE_HZ, duration_s)


def load_sync_sound(places: Mapping[str, str | Path], device: torch.device) -> SyncSound:
    """The sound branch on a device. Raises: UserError for weights that are missing, torn or of another network."""
    state = read_state_dict(locate("synchformer", places.get("synchformer")))
    return SyncSound(load_synchformer_audio(state), device)


# ---- Vectors of what moves and when, (segments, 8, 768)

CPU_SEGMENTS, CUDA_SEGMENTS = 4, 64  # encoded at once; 105 MB each


class SyncVideo:
    """Frames of videos of one length to vectors."""

    def __init__(self, network: Synchformer, device: torch.device) -> None:
        self.network, self.device = network.to(device), device
        self.max_segments = CPU_SEGMENTS if device.type == "cpu" else CUDA_SEGMENTS

    def __call__(self, videos: Sequence[Tensor]) -> dict[str, Tensor]:
        """(frames, 3, 224, 224) uint8 at 25 per second each → (n, segments, 8, 768)."""
        signed = (frames_u8[None].to(self.device).float().div_(127.5).sub_(1.0) for frames_u8 in videos)
        vectors = torch.cat([self.network(frames, max_segments=self.max_segments).float() for frames in signed])
        return {"synchformer_video": by_segment(vectors)}


def read_sync_video(path: Path, duration_s: float) -> Tensor:
    """The first int(25 · duration) frames of the synchronisation stream: (frames, 3, 224, 224) uint8.

    Raises: MediaError for a file that is missing, damaged, without picture, or shorter.
    """
    end_s = exact_seconds(duration_s)
    no_scene, sync = ExactPicker(CLIP_FPS, 0, end_s), ExactPicker(SYNC_FPS, int(end_s * SYNC_FPS), end_s)
    with opened_media(path) as container:
        picture = PictureTrack(container, *scene_and_sync(no_scene, sync))
        decode_tracks(container, [picture])
        picture.finish()
    return picture.sync.frames_u8


def load_sync_video(places: Mapping[str, str | Path], device: torch.device) -> SyncVideo:
    """The visual branch on a device. Raises: UserError for weights that are missing, torn or of another network."""
    state = read_state_dict(locate("synchformer", places.get("synchformer")))
    return SyncVideo(load_synchformer(state), device)
