"""Where the objective is compiled and in which precision it runs."""

from dataclasses import replace

import torch

from mmaudio.settings.schema import TrainSettings
from mmaudio.trainer.model_settings import uses_amp, uses_compile

CPU = torch.device("cpu")


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
