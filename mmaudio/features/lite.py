"""What the lite backend can do: no weights, no network, any device."""

from collections.abc import Collection

import torch
from torch import Tensor

from mmaudio.codec import LiteCodec, LiteVocoder, MelSpectrogram
from mmaudio.encoders import LiteText, encode_scene, encode_sync
from mmaudio.features.plan import Abilities


def lite_abilities(mode: str, device: torch.device, needs: Collection[str]) -> Abilities:
    """What is needed of it, on a device."""
    mel = MelSpectrogram(mode).eval().to(device)
    codec, vocoder = LiteCodec(mode).eval().to(device), LiteVocoder(mode).eval().to(device)

    def audio(wave_bs: Tensor) -> tuple[Tensor, Tensor]:
        mean_bcn, std_bcn = codec.encode(mel(wave_bs))
        return mean_bcn.transpose(1, 2).contiguous(), std_bcn.transpose(1, 2).contiguous()

    def sound(latent_bnc: Tensor) -> Tensor:
        return vocoder(codec.decode(latent_bnc.transpose(1, 2)))[:, 0]

    can_do = {"audio": audio, "scene": encode_scene, "sync": encode_sync, "text": LiteText(), "sound": sound}
    return Abilities(**{name: ability for name, ability in can_do.items() if name in needs})  # type: ignore[arg-type]
