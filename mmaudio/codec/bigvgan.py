"""BigVGAN: log-mel to waveform by transposed convolutions and periodic activations (Lee et al. 2023, arXiv 2206.04658).

One generator for both published vocoders (codec.md section 3). It is only run here, never trained.
Axes: b batch, m mel band, f mel frame, c channel, t time step, s sample.
"""

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from mmaudio.base.errors import UserError
from mmaudio.base.tensor_files import shapes_of
from mmaudio.codec.snake import ACTIVATIONS, AntiAliased
from mmaudio.codec.state_dict import check_state, find_mode
from mmaudio.codec.vocoder_settings import PUBLISHED, VocoderSettings, vocoder_settings
from mmaudio.codec.weight_norm import factored_shapes, find_factors, plain_tensor

END_KERNEL = 7  # of the first and the last convolution
CONTAINER = "generator"  # under this name a published file holds the tensors


Convolution = TypeVar("Convolution", nn.Conv1d, nn.ConvTranspose1d)


def bias_first(convolution: Convolution) -> Convolution:
    """The same layer with its bias before its weight, the order of the published state dicts."""
    weight = convolution.weight
    del convolution.weight
    convolution.weight = weight
    return convolution


def same_length(in_channels: int, out_channels: int, kernel: int, dilation: int = 1, bias: bool = True) -> nn.Conv1d:
    padding = dilation * (kernel - 1) // 2
    return bias_first(nn.Conv1d(in_channels, out_channels, kernel, padding=padding, dilation=dilation, bias=bias))


def activation(settings: VocoderSettings, channels: int) -> AntiAliased:
    return AntiAliased(ACTIVATIONS[settings.activation](channels, settings.snake_logscale))


class ResidualBlock(nn.Module):
    """Pairs of convolutions, a dilated one and a plain one, each after an activation and each pair beside a shortcut."""

    def __init__(self, settings: VocoderSettings, channels: int, kernel: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.convs1 = nn.ModuleList(same_length(channels, channels, kernel, dilation) for dilation in dilations)
        self.convs2 = nn.ModuleList(same_length(channels, channels, kernel) for _ in dilations)
        self.activations = nn.ModuleList(activation(settings, channels) for _ in range(2 * len(dilations)))

    def forward(self, x_bct: Tensor) -> Tensor:
        for i, (dilated, plain) in enumerate(zip(self.convs1, self.convs2, strict=True)):
            x_bct = plain(self.activations[2 * i + 1](dilated(self.activations[2 * i](x_bct)))).add_(x_bct)
        return x_bct


class BigVGAN(nn.Module):
    """Log-mel (b, m, f) → waveform (b, 1, s) in [−1, 1], s = f · the product of the rates; `load_vocoder` makes one that is ready.

    Input may be of any floating type and on any device; output is float32, whatever type the convolutions have.
    """

    def __init__(self, settings: VocoderSettings) -> None:
        super().__init__()
        self.settings = settings
        self.conv_pre = same_length(settings.num_mels, settings.upsample_initial_channel, END_KERNEL)
        self.ups = nn.ModuleList()
        self.resblocks = nn.ModuleList()
        for stage, (rate, kernel) in enumerate(zip(settings.upsample_rates, settings.upsample_kernel_sizes, strict=True)):
            before, after = settings.channels(stage), settings.channels(stage + 1)
            raise_rate = bias_first(nn.ConvTranspose1d(before, after, kernel, rate, padding=(kernel - rate) // 2))
            self.ups.append(nn.Sequential(raise_rate))
            for width, dilations in zip(settings.resblock_kernel_sizes, settings.resblock_dilation_sizes, strict=True):
                self.resblocks.append(ResidualBlock(settings, after, width, dilations))
        self.activation_post = activation(settings, after)
        self.conv_post = same_length(after, 1, END_KERNEL, bias=settings.use_bias_at_final)

    def stage(self, index: int, x_bct: Tensor) -> Tensor:
        """Raise the rate, then the mean of residual blocks of several widths beside each other."""
        num_widths = len(self.settings.resblock_kernel_sizes)
        raised_bct = self.ups[index](x_bct)
        first, *others = self.resblocks[index * num_widths : (index + 1) * num_widths]
        total_bct = first(raised_bct)
        for block in others:
            total_bct += block(raised_bct)
        return total_bct.div_(num_widths)

    def forward(self, mel: Tensor) -> Tensor:
        x_bct = self.conv_pre(mel.to(self.conv_pre.weight))
        for index in range(len(self.ups)):
            x_bct = self.stage(index, x_bct)
        wave_b1s = self.conv_post(self.activation_post(x_bct)).float()
        return wave_b1s.tanh() if self.settings.use_tanh_at_final else wave_b1s.clamp(-1.0, 1.0)


def load_vocoder(state_dict: Mapping[str, Any], mode: str, *, config: Mapping[str, Any] | None = None) -> BigVGAN:
    """The vocoder of a mode from its published file's content, ready for inference: float32, without gradients.

    Args:
        state_dict: the generator's tensors, weight-normalised by either naming or plain, or a container {"generator": tensors}.
            It is not changed, and no tensor of it is shared.
        config: the content of a release's config.json, for a generator of other sizes than the mode's published one.
    Raises: UserError naming the tensors or settings that do not fit, and for an unknown mode.
    """
    settings = {mode: vocoder_settings(find_mode(mode), config)}
    tensors = state_dict.get(CONTAINER, state_dict)
    if not isinstance(tensors, Mapping):
        raise UserError(f"{CONTAINER!r} in this vocoder file is {type(tensors).__name__}, want named tensors; get the published file anew")
    factors = find_factors(tensors)
    check_state(tensors, lambda mode: factored_shapes(shapes_of(_meta_vocoder((PUBLISHED | settings)[mode])), factors), mode, "vocoder")
    vocoder = _meta_vocoder(settings[mode])
    vocoder.load_state_dict({name: plain_tensor(tensors, name, factors) for name in shapes_of(vocoder)}, assign=True)
    return vocoder.eval().requires_grad_(False)


def _meta_vocoder(settings: VocoderSettings) -> BigVGAN:
    with torch.device("meta"):
        return BigVGAN(settings)
