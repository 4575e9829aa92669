"""A machine that cannot compile goes on without."""

import logging

import pytest
import torch
from torch import nn
from torch._dynamo.exc import TorchDynamoException

from mmaudio.distributed.devices import compile_


def test_where_compiling_fails_it_goes_on_without(monkeypatch, caplog):
    def broken(module):
        def call(*inputs):
            raise TorchDynamoException("no compiler\nmore")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    module = nn.Linear(2, 1, bias=False)
    compile_(module)
    with caplog.at_level(logging.WARNING):
        first, second = module(torch.ones(1, 2)), module(torch.ones(1, 2))
    assert torch.equal(first, second)
    assert caplog.text.count("compiling failed (no compiler); going on without") == 1


def test_a_failure_of_the_module_itself_is_raised(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda module: module)
    module = nn.Linear(2, 1)
    compile_(module)
    module(torch.ones(1, 2))
    with pytest.raises(RuntimeError):
        module(torch.ones(1, 3))
