"""The second set of weights of Synchformer's audio branch and comparison head: gains near one and places that are seen."""

import re

import numpy as np
import torch
from torch import Tensor

from tests.encoders.sharp import manifest
from tests.golden.fill import normals, weight

GAINS = re.compile(r"(^|\.)(ln1|ln2|ln_f|vis_in_lnorm|aud_in_lnorm|norm[12]|layernorm\w*)\.weight$")
PLACES = ("OFF_tok", "MOD_tok", "pos_emb", "cls_token", "distillation_token", "position_embeddings")
DOUBLED = ("attn.key.weight", "attn.query.weight", "attention.query.weight", "attention.key.weight", "in_proj_weight")


def sharp_weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    if GAINS.search(name):
        return np.float32(1) + np.float32(0.1) * normals(name, shape)
    if name.split(".")[-1] in PLACES:
        return np.float32(0.5) * normals(name, shape)
    return np.float32(2 if name.endswith(DOUBLED) else 1) * weight(name, shape)


def sync_state(part: str, fill: str) -> dict[str, Tensor]:
    """The tensors of `audio` or `compare`, filled `base` or `sharp`."""
    rule = {"base": weight, "sharp": sharp_weight}[fill]
    return {name: torch.from_numpy(np.asarray(rule(name, shape))) for name, shape in manifest(f"synchformer_{part}").items()}
