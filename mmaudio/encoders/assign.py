"""Weights of a file into a network, without a second copy."""

from collections.abc import Mapping

from torch import Tensor, nn


def assign_(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Make a module of meta tensors one for inference in float32, whose parameters are the tensors of `state` themselves."""
    module.load_state_dict({name: state[name].detach().float() for name in module.state_dict()}, assign=True)
    module.eval().requires_grad_(False)
