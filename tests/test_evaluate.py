"""evaluate.py: every test row once, the same samples with any number of processes, and its sentences."""

import json

import numpy as np
import pytest
import soundfile
import torch

from mmaudio.codec import MelSpectrogram
from mmaudio.media.audio import write_flac
from tests.conftest import ROOT, torchrun
from tests.trainer.tiny_stores import TINY, data_overrides, write_tiny_data


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of one step whose test data is a store of videos and one of recordings, repeated in training."""
    folder = tmp_path_factory.mktemp("run")
    overrides = [word for word in data_overrides(write_tiny_data(folder / "data")) if not word.startswith("data.test")]
    words = (*TINY, *overrides, "data.test=[held, winds]", "data.winds.repeat=2", "exp_id=one", "num_iterations=1", "sampling.num_steps=2")
    ended = torchrun(ROOT / "train.py", *words, processes=1, cwd=folder)
    assert ended.returncode == 0, ended.stderr
    return folder


def samples(run):
    """Id → log-mel of every sample: phase retrieval magnifies rounding in the wave, not in its spectrum."""
    files = sorted((run / "output/one/test-sampled").iterdir())
    return {path.stem: MelSpectrogram("16k")(torch.from_numpy(soundfile.read(path, dtype="float32")[0])[None]) for path in files}


def test_one_and_two_processes_sample_every_row_alike(run_script, run, monkeypatch):
    monkeypatch.chdir(run)
    real = np.sin(np.arange(16_384) / 20).astype(np.float32)
    for row in range(5):
        write_flac(run / "real" / f"held-{row}.flac", real, 16_000)
    ended = run_script("evaluate.py", "exp_id=one", "device=cpu", "reference=real", "batch_size=3")
    assert ended.code == 0, ended.err
    alone = samples(run)
    assert sorted(alone) == sorted([*(f"held-{row}" for row in range(5)), *(f"winds-{row}" for row in range(4))])
    assert json.loads((run / "output/one/test-output_metrics.json").read_text())["counts"]["paired"] == 5
    again = torchrun(ROOT / "evaluate.py", "exp_id=one", "device=cpu", processes=2, cwd=run)
    assert again.returncode == 0, again.stderr
    both = samples(run)
    assert both.keys() == alone.keys()
    assert max(float((both[name] - alone[name]).abs().mean()) for name in alone) < 0.02


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["exp_di=one"], "unknown key 'exp_di' (did you mean 'exp_id'?)"),
        (["exp_id=two"], "no run at output/two"),
        (["exp_id=one", "device=gpu", "batch_size=none"], "batch_size is 'none'"),
        (["exp_id=one", "device=mps"], "device is 'mps'; want cuda, cuda:N, cpu or auto"),
        (["exp_id=one", "device=cpu", "reference=nowhere"], "--reference is nowhere"),
    ],
)
def test_mistakes_are_sentences(run_script, run, monkeypatch, words, sentence):
    monkeypatch.chdir(run)
    ended = run_script("evaluate.py", *words)
    assert ended.code == 2
    assert sentence in ended.err
