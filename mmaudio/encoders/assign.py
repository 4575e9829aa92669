"""Weights of a file into a network, without a second copy."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeVar

import torch
from torch import Tensor, nn

from mmaudio.base.tensor_files import mismatches, refusal, shapes_of

Part = TypeVar("Part", bound=nn.Module)
_NONE: Mapping[str, tuple[int, ...]] = MappingProxyType({})


def assign_(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Make a module of meta tensors one for inference in float32, whose parameters are the tensors of `state` themselves."""
    module.load_state_dict({name: state[name].detach().float() for name in module.state_dict()}, assign=True)
    module.eval().requires_grad_(False)


def load_part(
    build: Callable[[], Part],
    state_dict: Mapping[str, Tensor],
    groups: str | tuple[str, ...],
    what: str,
    unused: Mapping[str, tuple[int, ...]] = _NONE,
) -> Part:
    """One part of a network from the file of the whole, ready for inference.

    The file's other groups are dropped. Tensors are taken over, not copied, so a file read by mmap is in memory once; the caller's
    dictionary is not changed.

    Args:
        build: makes the part; its tensors are made on the meta device.
        groups: how the names of its tensors begin.
        what: the part, as a sentence has it.
        unused: name → shape of tensors in these groups that nothing is computed with.
    Raises: UserError naming the first tensors that are missing, unknown or of another shape.
    """
    state = {name: tensor for name, tensor in state_dict.items() if name.startswith(groups)}
    with torch.device("meta"):
        part = build()
    if wrong := mismatches(state, shapes_of(part) | dict(unused)):
        raise refusal(wrong, what)
    assign_(part, state)
    return part
