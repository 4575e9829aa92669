"""Parameters that a run does not train, chosen by patterns of their names, as shells match file names."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

import torch
from torch import nn

from mmaudio.base.errors import UserError, nearest
from mmaudio.network import build_network


def trainable_shapes(network: nn.Module) -> dict[str, torch.Size]:
    """Name and shape of every parameter that takes a gradient, in the optimizer's order."""
    return {name: parameter.shape for name, parameter in network.named_parameters() if parameter.requires_grad}


def model_shapes(model: str) -> dict[str, torch.Size]:
    """The `trainable_shapes` of a named model of which nothing is frozen; its tensors take no memory."""
    with torch.device("meta"):
        return trainable_shapes(build_network(model))


def matching(names: Iterable[str], patterns: Sequence[str]) -> set[str]:
    """The names that one of the patterns matches."""
    return {name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)}


def check_patterns(names: Sequence[str], patterns: Sequence[str]) -> None:
    """Raises: UserError for every pattern that matches no trained parameter, and for patterns that match all of them."""
    parents = {".".join(parts[:depth]) + ".*" for parts in (name.split(".") for name in names) for depth in range(1, len(parts))}
    idle = [pattern for pattern in patterns if not matching(names, [pattern])]
    sentences = [f"freeze names {pattern!r}, which no trained parameter matches{nearest(pattern, [*parents, *names])}" for pattern in idle]
    if len(matching(names, patterns)) == len(names):
        sentences.append(f"freeze is {list(patterns)}, which leaves nothing to train; want patterns that spare some parameters")
    if sentences:
        raise UserError(*sentences)


def freeze_(network: nn.Module, patterns: Sequence[str]) -> None:
    """Take the parameters that a pattern matches out of training: no gradient, so no place in the optimizer and no decay.

    Averages hold them as they hold every tensor, and being constant they stay bitwise what they are.
    """
    parameters = dict(network.named_parameters())
    for name in matching(trainable_shapes(network), patterns):
        parameters[name].requires_grad_(False)
