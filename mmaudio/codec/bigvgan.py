"""The vocoder and its two published settings.

One generator for both published vocoders (codec.md section 3). It is only run here, never trained.
Axes: b batch, m mel band, f mel frame, c channel, t time step, s sample.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from mmaudio.base.errors import UserError
from mmaudio.base.specs import Mode
from mmaudio.codec.published_weights import check_state, factored_shapes, find_factors, find_mode, plain_tensor
from mmaudio.codec.snake import ACTIVATIONS, AntiAliased
from mmaudio.files.atomic import parse_json
from mmaudio.files.tensor_files import shapes_of

# ---- Sizes of a generator: the two published ones, and what a release's config.json says, whose names these are

UNSTATED = {"use_tanh_at_final": True, "use_bias_at_final": True}  # what a config.json means that does not say


@dataclass(frozen=True)
class VocoderSettings:
    """One generator. Raises: UserError for settings that describe none, or one this code does not build."""

    num_mels: int
    upsample_rates: tuple[int, ...]
    upsample_kernel_sizes: tuple[int, ...]
    upsample_initial_channel: int = 1536
    resblock: str = "1"
    resblock_kernel_sizes: tuple[int, ...] = (3, 7, 11)
    resblock_dilation_sizes: tuple[tuple[int, ...], ...] = ((1, 3, 5),) * 3
    activation: str = "snakebeta"
    snake_logscale: bool = True
    use_tanh_at_final: bool = True
    use_bias_at_final: bool = True

    def __post_init__(self) -> None:
        stages = tuple(zip(self.upsample_rates, self.upsample_kernel_sizes, strict=False))
        rules = {
            "resblock": (self.resblock == "1", "'1', the type of every published generator"),
            "activation": (self.activation in ACTIVATIONS, f"one of {', '.join(ACTIVATIONS)}"),
            "num_mels": (self.num_mels > 0, "a positive number"),
            "upsample_rates": (bool(stages) and min(self.upsample_rates) > 0, "positive numbers"),
            "upsample_kernel_sizes": (
                len(self.upsample_kernel_sizes) == len(self.upsample_rates)
                and all(kernel >= rate and (kernel - rate) % 2 == 0 for rate, kernel in stages),
                "one for each of upsample_rates, larger than it by an even number",
            ),
            "upsample_initial_channel": (
                self.upsample_initial_channel > 0 and self.upsample_initial_channel % 2 ** len(stages) == 0,
                f"a multiple of {2 ** len(stages)}",
            ),
            "resblock_kernel_sizes": (
                bool(self.resblock_kernel_sizes) and all(kernel > 0 and kernel % 2 for kernel in self.resblock_kernel_sizes),
                "odd numbers",
            ),
            "resblock_dilation_sizes": (
                len(self.resblock_dilation_sizes) == len(self.resblock_kernel_sizes)
                and all(dilations and min(dilations) > 0 for dilations in self.resblock_dilation_sizes),
                "a list of positive numbers for each of resblock_kernel_sizes",
            ),
        }
        wrong = [f"vocoder setting {name} is {getattr(self, name)!r}; want {want}" for name, (holds, want) in rules.items() if not holds]
        if wrong:
            raise UserError(*wrong)

    def channels(self, num_stages: int) -> int:
        """Channels after so many stages: each halves them."""
        return self.upsample_initial_channel // 2**num_stages


PUBLISHED = {
    "16k": VocoderSettings(num_mels=80, upsample_rates=(4, 4, 2, 2, 2, 2), upsample_kernel_sizes=(8, 8, 4, 4, 4, 4)),
    "44k": VocoderSettings(
        num_mels=128,
        upsample_rates=(8, 4, 2, 2, 2, 2),
        upsample_kernel_sizes=(16, 8, 4, 4, 4, 4),
        use_tanh_at_final=False,
        use_bias_at_final=False,
    ),
}


def read_config(path: Path) -> dict[str, Any]:
    """The content of a release's config.json. Raises: UserError for a file of anything else."""
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no settings of a vocoder; copy or download it anew")
    return content


def _as_tuples(value: Any) -> Any:
    return tuple(_as_tuples(part) for part in value) if isinstance(value, list | tuple) else value


def _same_kind(value: Any, example: Any) -> bool:
    """Whether a value has the type of another one, down to the first item of lists."""
    if isinstance(example, tuple):
        return isinstance(value, tuple) and all(_same_kind(part, example[0]) for part in value)
    return type(value) is type(example)


def vocoder_settings(mode: Mode, config: Mapping[str, Any] | None) -> VocoderSettings:
    """The settings of a mode's published vocoder, or what a release's config.json makes of them; its other entries are ignored.

    Raises: UserError for a setting of the wrong kind, and for the config of a vocoder at another rate or hop.
    """
    published = PUBLISHED[mode.name]
    if config is None:
        return published
    given = UNSTATED | {field.name: _as_tuples(config[field.name]) for field in fields(published) if field.name in config}
    wrong = [
        f"vocoder setting {name} is {value!r}; want something like {getattr(published, name)!r}"
        for name, value in given.items()
        if not _same_kind(value, getattr(published, name))
    ]
    for name, want in (("sampling_rate", mode.rate_hz), ("hop_size", mode.hop_samples), ("n_fft", mode.fft_samples)):
        if config.get(name, want) != want:
            wrong.append(f"this vocoder has {name} {config[name]}, mode {mode.name} has {want}; choose a vocoder of that mode")
    if wrong:
        raise UserError(*wrong)
    return replace(published, **given)


# ---- The network

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
