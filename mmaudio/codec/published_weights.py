"""Weight norm folded, names and shapes checked, values kept float32."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from mmaudio.base.errors import UserError, nearest
from mmaudio.base.specs import MODES, Mode
from mmaudio.files.tensor_files import Shapes, mismatches, refusal


class Float32Values(nn.Module):
    """A module whose own parameters and buffers, not its children's, stay float32 when the network around it is cast."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        if recurse:
            for child in self.children():
                child._apply(fn)
        return super()._apply(lambda values: values.to(fn(values).device), recurse=False)


# ---- Whether the tensors of a file are those of a network, by names and shapes alone


def find_mode(mode: str) -> Mode:
    """The constants of a mode. Raises: UserError for an unknown one."""
    if mode not in MODES:
        raise UserError(f"no mode {mode!r}{nearest(mode, MODES)}; known are {', '.join(MODES)}")
    return MODES[mode]


def check_state(
    state: Mapping[str, Any], shapes_for: Callable[[str], Shapes], mode: str, kind: str, dispensable: tuple[str, ...] = ()
) -> None:
    """Whether these are the tensors of a mode's network of a kind; `shapes_for` tells those of any mode.

    Raises: UserError with the first tensors that do not fit, how many there are, and the mode that they would fit.
    """
    wrong = mismatches(state, shapes_for(mode), dispensable)
    if not wrong:
        return
    fits = [other for other in MODES if other != mode and not mismatches(state, shapes_for(other), dispensable)]
    advice = f"they are of the {fits[0]} one: choose that mode" if fits else "get its published file anew"
    raise refusal(wrong, f"the {mode} {kind}", advice)


# ---- Weight-normalised convolutions folded into plain weights (Salimans and Kingma 2016, arXiv 1602.07868, eq. 2)

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
