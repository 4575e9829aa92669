"""Weight-normalised convolutions as files hold them, folded into plain weights (Salimans and Kingma 2016, arXiv 1602.07868, eq. 2).

A file names the two factors of a weight by one of three schemes: none (`X.weight`), the old one (`X.weight_g`, `X.weight_v`)
and that of PyTorch's parametrisations.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mmaudio.base.tensor_files import Shapes

PLAIN = ".weight"


@dataclass(frozen=True)
class Factors:
    """Endings of the names of a layer's length and direction."""

    length: str
    direction: str


SCHEMES = (Factors(".weight_g", ".weight_v"), Factors(".parametrizations.weight.original0", ".parametrizations.weight.original1"))


def find_factors(state: Mapping[str, Tensor]) -> Factors | None:
    """The scheme of a state dict; None where weights are plain."""
    for factors in SCHEMES:
        if any(name.endswith((factors.length, factors.direction)) for name in state):
            return factors
    return None


def factored_shapes(plain: Shapes, factors: Factors | None) -> Shapes:
    """Names and shapes that a file of this scheme has for a network of plain weights."""
    if factors is None:
        return plain
    shapes: Shapes = {}
    for name, shape in plain.items():
        if name.endswith(PLAIN):
            layer = name.removesuffix(PLAIN)
            shapes[layer + factors.length] = (shape[0], 1, 1)
            shapes[layer + factors.direction] = shape
        else:
            shapes[name] = shape
    return shapes


def plain_tensor(state: Mapping[str, Tensor], name: str, factors: Factors | None) -> Tensor:
    """The tensor of a plain name, new and float32: length · direction / |direction| over all but the first axis.

    The first axis is the output of a convolution and the input of a transposed one.
    """
    if factors is None or not name.endswith(PLAIN):
        return state[name].to(torch.float32, copy=True)
    layer = name.removesuffix(PLAIN)
    length, direction = state[layer + factors.length].float(), state[layer + factors.direction].float()
    return direction * (length / torch.linalg.vector_norm(direction, dim=(1, 2), keepdim=True))
