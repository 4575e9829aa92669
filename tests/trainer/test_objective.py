"""Where the objective is compiled and in which precision it runs."""

import logging
from dataclasses import replace

import pytest
import torch
from torch import nn

from mmaudio.base.settings import TrainSettings
from mmaudio.trainer.objective import Compiled, uses_amp, uses_compile

CPU = torch.device("cpu")


def test_where_compiling_fails_it_goes_on_without(monkeypatch, caplog):
    def broken(module):
        def call(*inputs):
            raise RuntimeError("no compiler\nmore")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    module = Compiled(nn.Linear(2, 1, bias=False))
    with caplog.at_level(logging.WARNING):
        first, second = module(torch.ones(1, 2)), module(torch.ones(1, 2))
    assert torch.equal(first, second)
    assert caplog.text.count("compiling failed (no compiler); going on without") == 1


def test_a_failure_of_the_module_itself_is_raised(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda module: module)
    module = Compiled(nn.Linear(2, 1))
    module(torch.ones(1, 2))
    with pytest.raises(RuntimeError):
        module(torch.ones(1, 3))


def test_auto_means_where_it_gains(caplog):
    settings = TrainSettings()
    assert not uses_amp(settings, CPU)
    assert not uses_compile(settings, CPU)
    assert caplog.text == ""
    asked = replace(settings, amp=True, compile=True)
    assert uses_amp(asked, CPU)
    assert uses_compile(asked, CPU)
    assert "amp=True" in caplog.text
    assert "compile=True" in caplog.text
    assert not uses_amp(replace(settings, amp=False), CPU)
