"""Sizes of a BigVGAN generator: the two published ones, and what a release's config.json says. Names are those of that file."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from mmaudio.base.errors import UserError
from mmaudio.base.specs import Mode
from mmaudio.codec.snake import ACTIVATIONS

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
        content = json.loads(path.read_text(encoding="utf-8"))
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
