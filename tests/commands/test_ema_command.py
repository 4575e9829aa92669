"""`mmaudio ema` on a run that train.py left: what it writes, what it prints, and what it says of mistakes."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from mmaudio.checkpoints.load import load_weights, read_record
from mmaudio.generate.model import ModelChoice, load_model
from mmaudio.trainer.tracker import read_metrics
from tests.conftest import train_in_process
from tests.trainer.tiny_stores import TINY, data_overrides, write_tiny_data

SETTINGS = ("num_iterations=4", "ema.checkpoint_every=2", "learning_rate=1e-3", "exp_id=birds", "validate_first=False")


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder in which train.py has made the run output/birds, with snapshots of steps 2 and 4."""
    folder = write_tiny_data(tmp_path_factory.mktemp("work"))
    train_in_process(folder, *TINY, *SETTINGS, *data_overrides(folder))
    return folder


@pytest.fixture
def work(trained, tmp_path, monkeypatch) -> Iterator[Path]:
    """A copy of that folder's run, in the working directory."""
    shutil.copytree(trained / "output", tmp_path / "output")
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    yield tmp_path / "output" / "birds"
    torch.set_num_threads(threads)


def test_synthesize(run_command, work):
    ended = run_command("ema", "synthesize", "output/birds", "--sigma", 0.08)
    assert ended.code == 0, ended.err
    assert "sigma 0.08 at step 4 (fit error " in ended.out and "output/birds/birds_ema_sigma0.08.pth" in ended.out
    assert read_record(work / "birds_ema_sigma0.08.pth") == read_record(work / "birds_last.pth")
    load_model(ModelChoice(work / "birds_ema_sigma0.08.pth"), torch.device("cpu"))

    assert run_command("ema", "synthesize", work, "--sigma", 0.1, "--step", 2).code == 0
    written = load_weights(work / "birds_ema_sigma0.1_step2.pth")
    stored = torch.load(work / "ema_ckpts" / "1.2.pt", weights_only=True)
    assert all(torch.equal(tensor, stored[f"ema_model.{name}"]) for name, tensor in written.items())
    assert read_record(work / "birds_ema_sigma0.1_step2.pth").step == 2

    assert run_command("ema", "synthesize", work, "--sigma", 0.05, "--output", "deep/some.pth").code == 0
    assert all(
        torch.equal(tensor, load_weights(work / "birds_ema_final.pth")[name])
        for name, tensor in load_weights(Path("deep/some.pth")).items()
    )


def test_sweep(run_command, work):
    ended = run_command("ema", "sweep", "output/birds", "--sigmas", "0.2,0.05,0.1", "--device", "cpu", "--batch_size", 2, "--step", 4)
    assert ended.code == 0, ended.err
    told = json.loads((work / "ema_sweep.json").read_text())
    assert (told["sigmas"], told["step"], told["val"], told["num_rows"]) == ([0.05, 0.1, 0.2], 4, ["held"], 5)
    assert told["best"]["loss"] == min(told["losses"])
    last = [line["valid/loss"] for line in read_metrics(work) if "valid/loss" in line][-1]
    assert told["live"] == {"file": "birds_last.pth", "step": 4, "loss": pytest.approx(last, rel=1e-6)}
    best = told["best"]["sigma"]
    assert f"write its weights with: mmaudio ema synthesize output/birds --sigma {best:g} --step 4" in ended.out
    assert f"{told['best']['loss']:.6g}" in ended.out
    with Image.open(work / "ema_sweep.png") as picture:
        assert picture.size[0] > picture.size[1] > 300
    assert run_command("ema", "sweep", work, "--sigmas", "0.1").code == 0, "an older sweep is replaced"
    assert json.loads((work / "ema_sweep.json").read_text())["sigmas"] == [0.1]


@pytest.mark.parametrize(
    ("words", "sentences"),
    [
        (["synthesise", "output/birds"], ["no action 'synthesise' (did you mean 'synthesize'?)"]),
        (["synthesize", "output/birds"], ["--sigma; see mmaudio ema synthesize --help"]),
        (["synthesize", "output/birds", "--sigma", "0.4"], ["sigma is 0.4; want more than 0 and less than 0.2887"]),
        (["synthesize", "output/birds", "--sigma", "0.1", "--step", "3"], ["no EMA snapshot of step 3 in ", "stored are 2, 4"]),
        (["synthesize", "output/birds", "--sigma", "0.1", "--step", "9"], ["no EMA snapshot of step 9 in ", "the newest is 4"]),
        (["synthesize", "output/birds", "--sigma", "0.1", "--step", "last"], ["--step: invalid int value: 'last'"]),
        (["synthesize", "output/none", "--sigma", "0.1", "--output", "w.txt"], ["no run at output/none", "--output is w.txt; want"]),
        (["synthesize", "output/birds", "--sigma", "0.1", "--output", "output/birds/birds_last.pth"], ["that is not there yet"]),
        (["sweep", "output/birds", "--sigmas", "0.1;0.2"], ["--sigmas is '0.1;0.2'; want numbers with commas"]),
        (["sweep", "output/birds", "--sigmas", "0.1,0.3"], ["sigma is 0.3; want more than 0"]),
        (["sweep", "output/birds", "--batch_size", "0", "--devise", "x"], ["--batch_size is 0", "--devise (did you mean '--device'?)"]),
        (["sweep", "output/birds", "--device", "tpu"], ["device is 'tpu'"]),
    ],
)
def test_mistakes_are_sentences(run_command, work, words, sentences):
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*")}
    ended = run_command("ema", *words)
    assert ended.code == 2
    assert [sentence for sentence in sentences if sentence not in ended.err] == []
    assert len(ended.err.splitlines()) == max(
        1, len([sentence for sentence in sentences if "stored are" not in sentence and "newest" not in sentence])
    )
    assert {path: path.stat().st_mtime_ns for path in Path().rglob("*")} == before


def test_a_run_without_snapshots_and_data_that_is_gone(run_command, work, trained):
    settings = (work / "config.yaml").read_text()
    (work / "config.yaml").write_text(settings.replace(str(trained / "held"), "gone"))
    ended = run_command("ema", "sweep", work, "--sigmas", "0.1")
    assert ended.code == 2
    assert "gone" in ended.err and "Traceback" not in ended.err
    shutil.rmtree(work / "ema_ckpts")
    ended = run_command("ema", "synthesize", work, "--sigma", 0.1)
    assert ended.code == 2
    assert ended.err.startswith("error: no EMA snapshots (<profile>.<step>.pt) in ")
    (work / "config.yaml").write_text(settings.replace("enable: true", "enable: false"))
    ended = run_command("ema", "synthesize", work, "--sigma", 0.1)
    assert ended.code == 2
    assert "was trained with ema.enable=False" in ended.err


def test_help_explains_steps(run_command):
    told = run_command("ema", "sweep", "--help").out
    assert "step N" in told and "ema.start + N" in told.replace("\n", " ").replace("  ", "")
    assert "synthesize" in run_command("ema").out
