"""The second set of weights the encoders' golden numbers were made with: gains near one and places that are seen."""

import json
import re
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from tests.golden.fill import GOLDEN, normals, weight

PLACES = ("pos_embed", "temp_embed", "cls_token", "positional_embedding", "class_embedding")


def sharp_weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    if re.search(r"(^|\.)(norm[123]?|ln_\w+)\.weight$", name):
        return np.float32(1) + np.float32(0.1) * normals(name, shape)
    if name.split(".")[-1] in PLACES:
        return np.float32(0.5) * normals(name, shape)
    gain = np.float32(2 if name.endswith(("qkv.weight", "in_proj_weight")) else 1)
    return gain * weight(name, shape)


FILLS: dict[str, Callable[[str, tuple[int, ...]], np.ndarray]] = {"base": weight, "sharp": sharp_weight}


def manifest(name: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a published state dict, in its order."""
    rows = json.loads((GOLDEN / "encoders" / f"manifest_{name}.json").read_text())
    return {name: tuple(shape) for name, shape, _ in rows}


def filled(shapes: dict[str, tuple[int, ...]], fill: str) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.asarray(FILLS[fill](name, shape))) for name, shape in shapes.items()}


def hollow(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Tensors of any size that take no memory: one zero each, seen many times."""
    return {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}
