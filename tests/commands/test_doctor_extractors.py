"""`mmaudio doctor evaluate`: what planned metrics are told from, and what of it is missing."""

import pytest

from mmaudio.doctor import environment as packages
from mmaudio.metrics import av_bench

CPU = ("doctor", "evaluate", "--backend", "lite", "--device", "cpu")


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    assert list(tmp_path.iterdir()) == []


def test_the_embedded_metrics_need_nothing(run_command, monkeypatch):
    monkeypatch.setattr(packages, "requires", lambda name: ['no_such_package; extra == "evaluate"'])
    ended = run_command(*CPU)
    assert ended.code == 0, ended.out
    assert "mel_frechet        from sounds" in ended.out and "nothing is missing" in ended.out


def test_what_judges_need(run_command, monkeypatch):
    monkeypatch.setattr(packages, "requires", lambda name: ['no_such_package; extra == "evaluate"'])
    ended = run_command(*CPU, "--metrics", "FD-PASST", "IB-Score", "DeSync", "--pretrained", "synchformer=gone.pth")
    assert ended.code == 2
    assert "FD-PASST  by passt" in ended.out
    assert "IB-Score  from imagebind_audio, imagebind_video of av-bench's own making" in ended.out
    assert "passt-s-f128-p16-s10-ap.476-swa.pt (345 MB) is missing" in ended.out and "there is no file at gone.pth" in ended.out
    assert "`pip install 'mmaudio[evaluate]'`" in ended.out and "missing or wrong: 3" in ended.out


def test_the_engine_that_is_not_installed(run_command, monkeypatch):
    monkeypatch.setattr(av_bench, "find_spec", lambda name: None)
    ended = run_command(*CPU, "--metrics", "av_bench", "--engine", "av_bench")
    assert ended.code == 2 and "FD-VGG            by the package av_bench" in ended.out and "on no package registry" in ended.out


def test_a_metric_that_there_is_none_of(run_command):
    ended = run_command(*CPU, "--metrics", "FD-PAST")
    assert ended.code == 2 and "did you mean 'FD-PASST'?" in ended.err
