"""The variational autoencoder between log-mel and latents (codec.md section 2). It is only run here, never trained.

Axes: b batch, m mel band, f mel frame, c latent channel, n latent, h hidden channel, t time step.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmaudio.base.errors import UserError
from mmaudio.base.specs import MODES
from mmaudio.base.tensor_files import shapes_of
from mmaudio.codec.magnitude import AttnBlock1d, Downsample1d, MPConv1d, ResnetBlock1d, Upsample1d, is_normalised, mp_silu, normalise_weight
from mmaudio.codec.precision import Float32Values
from mmaudio.codec.state_dict import check_state, find_mode
from mmaudio.codec.statistics import mel_statistics

HIDDEN_WIDTH = {"16k": 384, "44k": 512}
LEVEL_MULTIPLES = (1, 2, 4)  # of the hidden width; level 0 has one time step per mel frame, the others one per latent
ENCODER_BLOCKS, DECODER_BLOCKS = 2, 3  # per level
MOST_ACTIVATION = 256.0
LEAST_LOG_VARIANCE, MOST_LOG_VARIANCE = -30.0, 20.0


def bounded(x: Tensor) -> Tensor:
    return x.clamp(-MOST_ACTIVATION, MOST_ACTIVATION)


def posterior(moments_bht: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation, float32, from stacked mean and log-variance: (b, 2c, n) → twice (b, c, n)."""
    mean, log_variance = moments_bht.float().chunk(2, dim=1)
    return mean, (0.5 * log_variance.clamp(LEAST_LOG_VARIANCE, MOST_LOG_VARIANCE)).exp()


class Level(nn.Module):
    """Residual blocks of one width, the first of which changes to it."""

    def __init__(self, in_channels: int, channels: int, num_blocks: int) -> None:
        super().__init__()
        self.block = nn.ModuleList(ResnetBlock1d(in_channels if i == 0 else channels, channels) for i in range(num_blocks))

    def forward(self, x_bht: Tensor) -> Tensor:
        for block in self.block:
            x_bht = bounded(block(x_bht))
        return x_bht


class EncoderLevel(Level):
    def __init__(self, in_channels: int, channels: int, halves: bool = False) -> None:
        super().__init__(in_channels, channels, ENCODER_BLOCKS)
        self.downsample = Downsample1d(channels) if halves else nn.Identity()

    def forward(self, x_bht: Tensor) -> Tensor:
        return self.downsample(super().forward(x_bht))


class DecoderLevel(Level):
    def __init__(self, in_channels: int, channels: int, doubles: bool = False) -> None:
        super().__init__(in_channels, channels, DECODER_BLOCKS)
        self.upsample = Upsample1d(channels) if doubles else nn.Identity()

    def forward(self, x_bht: Tensor) -> Tensor:
        return self.upsample(super().forward(x_bht))


class Middle(nn.Module):
    """Attention between two residual blocks."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block_1 = ResnetBlock1d(channels, channels)
        self.attn_1 = AttnBlock1d(channels)
        self.block_2 = ResnetBlock1d(channels, channels)

    def forward(self, x_bht: Tensor) -> Tensor:
        return bounded(self.block_2(self.attn_1(self.block_1(x_bht))))


class Encoder(Float32Values):
    """Standardised log-mel (b, m, f) → stacked mean and log-variance (b, 2c, f // 2)."""

    def __init__(self, num_mels: int, latent_channels: int, hidden_width: int) -> None:
        super().__init__()
        narrow, middle, wide = (hidden_width * multiple for multiple in LEVEL_MULTIPLES)
        self.learnable_gain = nn.Parameter(torch.zeros(()))
        self.conv_in = MPConv1d(num_mels, narrow, 3)
        self.down = nn.ModuleList([EncoderLevel(narrow, narrow, halves=True), EncoderLevel(narrow, middle), EncoderLevel(middle, wide)])
        self.mid = Middle(wide)
        self.conv_out = MPConv1d(wide, 2 * latent_channels, 3)

    def forward(self, standard_bmf: Tensor) -> Tensor:
        x_bht = self.conv_in(standard_bmf.to(self.conv_in.weight.dtype))
        for level in self.down:
            x_bht = level(x_bht)
        return self.conv_out(mp_silu(self.mid(x_bht)), gain=1.0 + self.learnable_gain)


class Decoder(Float32Values):
    """Latents (b, c, n) → standardised log-mel (b, m, 2n)."""

    def __init__(self, num_mels: int, latent_channels: int, hidden_width: int) -> None:
        super().__init__()
        narrow, middle, wide = (hidden_width * multiple for multiple in LEVEL_MULTIPLES)
        self.learnable_gain = nn.Parameter(torch.zeros(()))
        self.conv_in = MPConv1d(latent_channels, wide, 3)
        self.mid = Middle(wide)
        self.up = nn.ModuleList([DecoderLevel(middle, narrow), DecoderLevel(wide, middle, doubles=True), DecoderLevel(wide, wide)])
        self.conv_out = MPConv1d(narrow, num_mels, 3)

    def forward(self, latent_bcn: Tensor) -> Tensor:
        x_bht = self.mid(self.conv_in(latent_bcn.to(self.conv_in.weight)))
        for level in reversed(self.up):
            x_bht = level(x_bht)
        return self.conv_out(mp_silu(x_bht), gain=1.0 + self.learnable_gain)


class MelVAE(Float32Values):
    """Log-mel (b, m, f) ↔ latents (b, c, n), n = f // 2, with or without either half; `load_vae` makes one that is ready.

    Inputs may be of any floating type and on any device; outputs are float32, whatever type the convolutions have.
    """

    data_mean: Tensor
    data_std: Tensor

    def __init__(self, mode: str, *, with_encoder: bool = True, with_decoder: bool = True) -> None:
        super().__init__()
        sizes = (MODES[mode].num_mels, MODES[mode].latent_channels, HIDDEN_WIDTH[mode])
        mean, std = mel_statistics(mode)
        self.register_buffer("data_mean", mean)
        self.register_buffer("data_std", std)
        self.encoder = Encoder(*sizes) if with_encoder else None
        self.decoder = Decoder(*sizes) if with_decoder else None

    def encode(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior mean and standard deviation, each (b, c, f // 2); an odd last frame is dropped.

        Raises: ValueError if this VAE was loaded without its encoder.
        """
        if self.encoder is None:
            raise ValueError("this VAE was loaded without its encoder")
        return posterior(self.encoder((mel.to(self.data_mean) - self.data_mean) / self.data_std))

    def decode(self, latent: Tensor) -> Tensor:
        """Latents (b, c, n) to log-mel (b, m, 2n). Raises: ValueError if this VAE was loaded without its decoder."""
        if self.decoder is None:
            raise ValueError("this VAE was loaded without its decoder")
        return self.decoder(latent) * self.data_std + self.data_mean


def _meta_vae(mode: str, with_encoder: bool = True, with_decoder: bool = True) -> MelVAE:
    with torch.device("meta"):
        return MelVAE(mode, with_encoder=with_encoder, with_decoder=with_decoder)


def load_vae(state_dict: Mapping[str, Tensor], mode: str, *, with_encoder: bool = True, with_decoder: bool = True) -> MelVAE:
    """The VAE of a mode from the tensors of its published file, ready for inference: float32, on their device, without gradients.

    The weights are normalised here, once. Every tensor is the VAE's own: the caller's dictionary and what it maps are left
    alone. A half that is not asked for takes no memory, and its tensors may be missing.
    Raises: UserError naming the tensors that do not fit, for an unknown mode, and for weights that were normalised before;
        ValueError if no half is asked for.
    """
    find_mode(mode)
    if not (with_encoder or with_decoder):
        raise ValueError("a VAE without encoder and decoder does nothing; ask for one of them")
    dispensable = tuple(half for half, wanted in (("encoder.", with_encoder), ("decoder.", with_decoder)) if not wanted)
    check_state(state_dict, lambda mode: shapes_of(_meta_vae(mode)), mode, "VAE", dispensable)
    if is_normalised(state_dict[f"{'decoder' if with_decoder else 'encoder'}.mid.attn_1.qkv.weight"]):
        raise UserError(f"these weights of the {mode} VAE are normalised already; load the published file, whose weights are raw")
    vae = _meta_vae(mode, with_encoder, with_decoder)
    ready = {
        name: normalise_weight(state_dict[name]) if name.endswith(".weight") else state_dict[name].to(torch.float32, copy=True)
        for name in shapes_of(vae)
    }
    vae.load_state_dict(ready, assign=True)
    return vae.eval().requires_grad_(False)
