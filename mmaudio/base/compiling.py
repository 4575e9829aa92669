"""Compiling where it works, and going on without where it does not."""

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch._dynamo.exc import TorchDynamoException

log = logging.getLogger(__name__)


class CompiledCall:
    """A function, compiled; where the first call shows that this machine cannot, the function as it is."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._plain = function
        self._call: Callable[..., Any] = torch.compile(function)
        self._has_run = False

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        try:
            result = self._call(*inputs, **named)
        except TorchDynamoException as error:
            if self._has_run:
                raise
            log.warning("compiling failed (%s); going on without, as with compile=False", str(error).strip().split("\n")[0])
            self._call = self._plain
            result = self._call(*inputs, **named)
        self._has_run = True
        return result


def compile_(module: nn.Module) -> None:
    """Compile a module in place: the same parameters, attributes and children, another way to run its forward."""
    module.forward = CompiledCall(module.forward)
