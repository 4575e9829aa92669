"""The VAE between log-mel and latents, with its mel statistics.

Axes: b batch, m mel band, f mel frame, c latent channel, n latent, h hidden channel, t time step.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmaudio.base.errors import UserError
from mmaudio.base.specs import MODES
from mmaudio.codec.mp_layers import AttnBlock1d, Downsample1d, MPConv1d, ResnetBlock1d, Upsample1d, is_normalised, mp_silu, normalise_weight
from mmaudio.codec.published_weights import Float32Values, check_state, find_mode
from mmaudio.files.tensor_files import shapes_of

# ---- What is subtracted from each mel band and what it is divided by: mean and deviation of log-mel over the training data

# Lowest band first; log10 mel for 16k, natural for 44k.
_MEAN_16K = """
-1.6058 -1.3676 -1.2520 -1.2453 -1.2078 -1.2224 -1.2419 -1.2439 -1.2922 -1.2927 -1.3170 -1.3543 -1.3401 -1.3836 -1.3907 -1.3912
-1.4313 -1.4152 -1.4527 -1.4728 -1.4568 -1.5101 -1.5051 -1.5172 -1.5623 -1.5373 -1.5746 -1.5687 -1.6032 -1.6131 -1.6081 -1.6331
-1.6489 -1.6489 -1.6700 -1.6738 -1.6953 -1.6969 -1.7048 -1.7280 -1.7361 -1.7495 -1.7658 -1.7814 -1.7889 -1.8064 -1.8221 -1.8377
-1.8417 -1.8643 -1.8857 -1.8929 -1.9173 -1.9379 -1.9531 -1.9673 -1.9824 -2.0042 -2.0215 -2.0436 -2.0766 -2.1064 -2.1418 -2.1855
-2.2319 -2.2767 -2.3161 -2.3572 -2.3954 -2.4282 -2.4659 -2.5072 -2.5552 -2.6074 -2.6584 -2.7107 -2.7634 -2.8266 -2.8981 -2.9673
"""
_STD_16K = """
1.0291 1.0411 1.0043 0.9820 0.9677 0.9543 0.9450 0.9392 0.9343 0.9297 0.9276 0.9263 0.9242 0.9254 0.9232 0.9281
0.9263 0.9315 0.9274 0.9247 0.9277 0.9199 0.9188 0.9194 0.9160 0.9161 0.9146 0.9161 0.9100 0.9095 0.9145 0.9076
0.9066 0.9095 0.9032 0.9043 0.9038 0.9011 0.9019 0.9010 0.8984 0.8983 0.8986 0.8961 0.8962 0.8978 0.8962 0.8973
0.8993 0.8976 0.8995 0.9016 0.8982 0.8972 0.8974 0.8949 0.8940 0.8947 0.8936 0.8939 0.8951 0.8956 0.9017 0.9167
0.9436 0.9690 1.0003 1.0225 1.0381 1.0491 1.0545 1.0604 1.0761 1.0929 1.1089 1.1196 1.1176 1.1156 1.1117 1.1070
"""
_MEAN_44K = """
-3.3462 -2.6723 -2.4893 -2.3143 -2.2664 -2.3317 -2.1802 -2.4006 -2.2357 -2.4597 -2.3717 -2.4690 -2.5142 -2.4919 -2.6610 -2.5047
-2.7483 -2.5926 -2.7462 -2.7033 -2.7386 -2.8112 -2.7502 -2.9594 -2.7473 -3.0035 -2.8891 -2.9922 -2.9856 -3.0157 -3.1191 -2.9893
-3.1718 -3.0745 -3.1879 -3.2310 -3.1424 -3.2296 -3.2791 -3.2782 -3.2756 -3.3134 -3.3509 -3.3750 -3.3951 -3.3698 -3.4505 -3.4509
-3.5089 -3.4647 -3.5536 -3.5788 -3.5867 -3.6036 -3.6400 -3.6747 -3.7072 -3.7279 -3.7283 -3.7795 -3.8259 -3.8447 -3.8663 -3.9182
-3.9605 -3.9861 -4.0105 -4.0373 -4.0762 -4.1121 -4.1488 -4.1874 -4.2461 -4.3170 -4.3639 -4.4452 -4.5282 -4.6297 -4.7019 -4.7960
-4.8700 -4.9507 -5.0303 -5.0866 -5.1634 -5.2342 -5.3242 -5.4053 -5.4927 -5.5712 -5.6464 -5.7052 -5.7619 -5.8410 -5.9188 -6.0103
-6.0955 -6.1673 -6.2362 -6.3120 -6.3926 -6.4797 -6.5565 -6.6511 -6.8130 -6.9961 -7.1275 -7.2457 -7.3576 -7.4663 -7.6136 -7.7469
-7.8815 -8.0132 -8.1515 -8.3071 -8.4722 -8.7418 -9.3975 -9.6628 -9.7671 -9.8863 -9.9992 -10.0860 -10.1709 -10.5418 -11.2795 -11.3861
"""
_STD_44K = """
2.3804 2.4368 2.3772 2.3145 2.2803 2.2510 2.2316 2.2083 2.1996 2.1835 2.1769 2.1659 2.1631 2.1618 2.1540 2.1606
2.1571 2.1567 2.1612 2.1579 2.1679 2.1683 2.1634 2.1557 2.1668 2.1518 2.1415 2.1449 2.1406 2.1350 2.1313 2.1415
2.1281 2.1352 2.1219 2.1182 2.1327 2.1195 2.1137 2.1080 2.1179 2.1036 2.1087 2.1036 2.1015 2.1068 2.0975 2.0991
2.0902 2.1015 2.0857 2.0920 2.0893 2.0897 2.0910 2.0881 2.0925 2.0873 2.0960 2.0900 2.0957 2.0958 2.0978 2.0936
2.0886 2.0905 2.0845 2.0855 2.0796 2.0840 2.0813 2.0817 2.0838 2.0840 2.0917 2.1061 2.1431 2.1976 2.2482 2.3055
2.3700 2.4088 2.4372 2.4609 2.4731 2.4847 2.5072 2.5451 2.5772 2.6147 2.6529 2.6596 2.6645 2.6726 2.6803 2.6812
2.6899 2.6916 2.6931 2.6998 2.7062 2.7262 2.7222 2.7158 2.7041 2.7485 2.7491 2.7451 2.7485 2.7233 2.7297 2.7233
2.7145 2.6958 2.6788 2.6439 2.6007 2.4786 2.2469 2.1877 2.1392 2.0717 2.0107 1.9676 1.9140 1.7102 0.9101 0.7164
"""
_TEXTS = {"16k": (_MEAN_16K, _STD_16K), "44k": (_MEAN_44K, _STD_44K)}


def mel_statistics(mode: str) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each band of a mode, (1, bands, 1), float32."""
    mean, std = (torch.tensor([float(word) for word in text.split()])[None, :, None] for text in _TEXTS[mode])
    return mean, std


# ---- The network

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
