"""PaSST: what is heard in 10 s of sound, as 527 classes of AudioSet and as one vector (Koutini et al. 2022, 2110.05069).

The network and its spectrogram are those of the package hear21passt, arch `passt_s_swa_p16_128_ap476`, mode "all". The package would
fetch its weights by itself and prints while it is built; here they come through `mmaudio.weights`, and it is kept quiet. It loads the
published file strictly, so the file's 159 names are those of the network; the file itself was not at hand.
"""

import contextlib
import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmaudio.files.tensor_files import assign_, mismatches, read_state_dict, refusal, shapes_of
from mmaudio.metrics.extractors.waves import read_centred
from mmaudio.weights import locate

RATE_HZ = 32_000
NUM_SAMPLES = 320_000  # 10 s: shorter sounds are followed by silence
NUM_CLASSES = 527
ARCH = "passt_s_swa_p16_128_ap476"
# The spectrogram that this arch was trained with: the settings of the package's own `base` model
MEL_SETTINGS = {
    "n_mels": 128,
    "sr": RATE_HZ,
    "win_length": 800,
    "hopsize": 320,
    "n_fft": 1024,
    "freqm": 48,
    "timem": 192,
    "htk": False,
    "fmin": 0.0,
    "fmax": None,
    "norm": 1,
    "fmin_aug_range": 10,
    "fmax_aug_range": 2000,
}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the package's prints and warnings of old calls, and without a trace in the global random state that it draws from."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        yield


def build_passt() -> nn.Module:
    """The package's network with random weights, on the CPU: spectrograms (n, 1, 128, frames) → logits (n, 527), features (n, 768)."""
    with _quiet():
        from hear21passt.models.passt import get_model

        network: nn.Module = get_model(arch=ARCH, pretrained=False)
    return network


def _build_spectrogram() -> nn.Module:
    with _quiet():
        from hear21passt.models.preprocess import AugmentMelSTFT

        spectrogram: nn.Module = AugmentMelSTFT(**MEL_SETTINGS)
    return spectrogram


class Passt:
    """Waves to logits and features. `network` has the names of the published file."""

    def __init__(self, state: Mapping[str, Tensor], device: torch.device) -> None:
        """Raises: UserError naming the first tensors that are missing, unknown or of another shape."""
        from hear21passt.wrapper import PasstBasicWrapper

        network = build_passt()
        if wrong := mismatches(state, shapes_of(network)):
            raise refusal(wrong, "PaSST")
        assign_(network, state)
        model: Any = PasstBasicWrapper(mel=_build_spectrogram(), net=network, mode="all")
        self.model, self.device = model.eval().to(device), device

    def __call__(self, waves: Sequence[Tensor]) -> dict[str, Tensor]:
        """(samples,) at 32 kHz each, cut or zero-padded to 10 s → logits (n, 527) and features (n, 768)."""
        wave_ns = torch.stack([F.pad(wave[:NUM_SAMPLES], (0, max(0, NUM_SAMPLES - len(wave)))) for wave in waves])
        with _quiet():
            both = self.model.get_scene_embeddings(wave_ns.to(self.device)).float()
        return {"passt_logits": both[:, :NUM_CLASSES], "passt_features_embed": both[:, NUM_CLASSES:]}


def read_passt_sound(path: Path, duration_s: float) -> Tensor:
    """(samples,) of a file's sound at 32 kHz. Raises: MediaError."""
    return read_centred(path, RATE_HZ, duration_s)


def load_passt_sound(places: Mapping[str, str | Path], device: torch.device) -> Passt:
    """PaSST on a device. Raises: UserError for weights that are missing, torn or of another network."""
    return Passt(read_state_dict(locate("passt", places.get("passt"))), device)
