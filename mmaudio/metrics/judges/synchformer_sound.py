"""Synchformer's vectors of what is heard and when, (segments, 6, 768), for telling how far a sound is off its picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from mmaudio.base.tensor_files import read_state_dict
from mmaudio.encoders.synchformer_audio import RATE_HZ, SynchformerAudio, load_synchformer_audio
from mmaudio.metrics.judges.waves import read_exactly
from mmaudio.weights import locate


class SyncSound:
    """Waves of one length to vectors."""

    def __init__(self, network: SynchformerAudio, device: torch.device) -> None:
        self.network, self.device = network.to(device), device

    def __call__(self, waves: Sequence[Tensor]) -> dict[str, Tensor]:
        """(samples,) at 16 kHz each → (n, segments, 6, 768)."""
        return {"synchformer_audio": self.network(torch.stack(list(waves)).to(self.device)).float()}


def read(path: Path, duration_s: float) -> Tensor:
    """Exactly int(16000 · duration) samples of a file's sound. Raises: MediaError, also for a shorter one."""
    return read_exactly(path, RATE_HZ, duration_s)


def load(places: Mapping[str, str | Path], device: torch.device) -> SyncSound:
    """The sound branch on a device. Raises: UserError for weights that are missing, torn or of another network."""
    state = read_state_dict(locate("synchformer", places.get("synchformer")))
    return SyncSound(load_synchformer_audio(state), device)
