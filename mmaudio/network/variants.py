"""Named networks: one row each. Everything else about a variant follows from its row."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmaudio.base.errors import UserError, nearest
from mmaudio.base.specs import DEFAULT_DURATION_S, AudioSpec
from mmaudio.files.tensor_files import mismatches, refusal, shapes_of
from mmaudio.network.conditions import CONDITION_ROWS
from mmaudio.network.transformer import FlowTransformer

STALE_KEYS = ("t_embed.freqs", "latent_rot", "clip_rot")  # buffers that early weight files still carry


@dataclass(frozen=True)
class Variant:
    """Sizes of a network, the mode whose latents it predicts, and how it is conditioned.

    `v2` chooses its input layers and time embedding; `final_cond` must be `global` for published weights; `null_sampling`
    says whether clip and sync are dropped together in training.
    """

    mode: str
    hidden_dim: int
    num_heads: int
    depth: int
    fused_depth: int
    v2: bool = False
    final_cond: str = "global"
    null_sampling: str = "joint"

    def audio(self, duration_s: float = DEFAULT_DURATION_S) -> AudioSpec:
        """Lengths and channels of its clips."""
        return AudioSpec(self.mode, duration_s)

    def sizes(self, duration_s: float) -> dict[str, Any]:
        """Constructor keywords for clips of `duration_s` seconds."""
        spec = self.audio(duration_s)
        conditions = CONDITION_ROWS.values()
        return {
            "latent_dim": spec.latent_channels,
            "hidden_dim": self.hidden_dim,
            "depth": self.depth,
            "fused_depth": self.fused_depth,
            "num_heads": self.num_heads,
            "latent_seq_len": spec.num_latents,
            **{f"{row.name}_dim": row.width for row in conditions},
            **{f"{row.name}_seq_len": row.num_tokens(spec) for row in conditions},
            "v2": self.v2,
            "final_cond": self.final_cond,
        }


VARIANTS = {
    "nano_16k": Variant("16k", 64, 1, 3, 1),
    "nano_44k": Variant("44k", 64, 1, 3, 1),
    "nano_44k_v2": Variant("44k", 64, 1, 3, 1, v2=True),
    "tiny_16k": Variant("16k", 128, 2, 4, 2),
    "tiny_44k": Variant("44k", 128, 2, 4, 2),
    "small_16k": Variant("16k", 448, 7, 12, 8),
    "small_44k": Variant("44k", 448, 7, 12, 8),
    "medium_44k": Variant("44k", 896, 14, 12, 8),
    "large_44k": Variant("44k", 896, 14, 21, 14),
    "large_44k_v2": Variant("44k", 896, 14, 21, 14, v2=True),
}


def find_variant(name: str) -> Variant:
    """The row of a name. Raises: UserError for an unknown name, with the nearest known one."""
    if name not in VARIANTS:
        raise UserError(f"no model {name!r}{nearest(name, VARIANTS)}; known are {', '.join(VARIANTS)}")
    return VARIANTS[name]


def build_network(variant: str | None = None, *, duration_s: float = DEFAULT_DURATION_S, **sizes: Any) -> FlowTransformer:
    """A new network: a named variant, or with None any whose sizes the keywords give; keywords override the row.

    `latent_mean`, `latent_std` (channels,) and `empty_string_feat` (77, 1024) may be among the keywords. The starting
    weights are drawn from torch's global generator.
    """
    row = find_variant(variant).sizes(duration_s) if variant is not None else {}
    return FlowTransformer(**(row | sizes))


def _misfits(state: dict[str, Tensor], variant: str, **sizes: Any) -> list[str]:
    with torch.device("meta"):
        return mismatches(state, shapes_of(build_network(variant, **sizes)))


def check_weights(state_dict: dict[str, Tensor], variant: str, **sizes: Any) -> None:
    """Whether weights are of a variant, by names and shapes alone. Raises: UserError, as `load_network`."""
    state = {name: tensor for name, tensor in state_dict.items() if name not in STALE_KEYS}
    if wrong := _misfits(state, variant, **sizes):
        fits = next((name for name in VARIANTS if not _misfits(state, name)), None)
        raise refusal(wrong, variant, f"they are weights of {fits}" if fits else "they fit no known model")


def load_network(state_dict: dict[str, Tensor], variant: str, *, duration_s: float = DEFAULT_DURATION_S, **sizes: Any) -> FlowTransformer:
    """A network of `variant` with the weights of a published or own file, in float32; the caller's dictionary is not changed.

    Args:
        sizes: keywords that override the variant's row, such as `final_cond`.

    Raises: UserError naming the first tensors that do not fit, and the variant that would.
    """
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"state_dict is a {type(state_dict).__name__}; want the named tensors that a weights file holds")
    check_weights(state_dict, variant, **sizes)
    state = {name: tensor for name, tensor in state_dict.items() if name not in STALE_KEYS}
    with torch.device("meta"):
        network = build_network(variant, duration_s=duration_s, **sizes)
    network.to_empty(device="cpu")
    network.load_state_dict(state)
    return network
