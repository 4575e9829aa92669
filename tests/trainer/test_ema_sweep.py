"""Averages of whole runs: short ones, those with little disk, those with frozen weights, and which width scores best."""

import re
import shutil
from dataclasses import replace

import pytest
import torch

from mmaudio.base.errors import Problems, UserError
from mmaudio.checkpoints.ema_snapshots import GB, list_snapshots, synthesize
from mmaudio.checkpoints.load import load_weights, read_record
from mmaudio.checkpoints.run_files import RunFiles
from mmaudio.checkpoints.save import save_file
from mmaudio.distributed.ranks import Ranks
from mmaudio.network import build_network
from mmaudio.settings.schema import EmaSettings, TrainSettings
from mmaudio.trainer import ema_sweep as averaging
from mmaudio.trainer.checks import check_training
from mmaudio.trainer.ema_averages import snapshot_bytes
from mmaudio.trainer.ema_sweep import RunAverages, Score, Sweep, sweep
from mmaudio.trainer.tracker import read_metrics
from tests.trainer.tiny_runs import train
from tests.trainer.tiny_stores import DURATION_S, tiny_settings, write_tiny_data

NAME = "averaged"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> TrainSettings:
    folder = write_tiny_data(tmp_path_factory.mktemp("data"))
    ema = EmaSettings(checkpoint_every=2, start=1)
    return tiny_settings(folder, NAME, val=("held",), num_iterations=6, validate_first=False, ema=ema)


@pytest.fixture(scope="module")
def files(base, tmp_path_factory) -> RunFiles:
    """A run with snapshots of updates 2, 4 and 5, which were iterations 3, 5 and 6."""
    files = RunFiles(tmp_path_factory.mktemp("run"), NAME)
    assert train(base, files.folder, Ranks(), CPU)
    return files


def steps(files: RunFiles) -> list[tuple[int, int]]:
    return [(snapshot.index, snapshot.n) for snapshot in list_snapshots(files.ema_folder)]


def test_a_run_shorter_than_one_interval_ends_with_averages(base, tmp_path):
    files = RunFiles(tmp_path, NAME)
    assert train(replace(base, num_iterations=3, ema=EmaSettings()), tmp_path, Ranks(), CPU)
    assert steps(files) == [(0, 3), (1, 3)]
    final, state = load_weights(files.ema_final), torch.load(files.checkpoint_last, weights_only=True)
    assert all(torch.equal(tensor, state["ema"][f"ema_models.0.ema_model.{name}"]) for name, tensor in final.items())
    assert not torch.equal(final["final_layer.conv.weight"], state["weights"]["final_layer.conv.weight"])
    assert read_record(files.ema_final).step == 3


def network_bytes() -> int:
    with torch.device("meta"):
        return snapshot_bytes(build_network("nano_16k", duration_s=DURATION_S).state_dict(), (0.05, 0.1))


def test_snapshots_stay_within_their_budget(base, files, tmp_path, caplog):
    room_for_three = EmaSettings(checkpoint_every=1, start=1, max_snapshots_gb=3.5 * network_bytes() / GB)
    with caplog.at_level("INFO"):
        assert train(replace(base, ema=room_for_three), tmp_path, Ranks(), CPU)
    assert steps(RunFiles(tmp_path, NAME)) == [(0, 2), (0, 4), (0, 5), (1, 2), (1, 4), (1, 5)]
    assert "removed the EMA snapshots of step" in caplog.text
    mine, whole = (load_weights(RunFiles(folder, NAME).ema_final) for folder in (tmp_path, files.folder))
    assert all(torch.equal(mine[name], tensor) for name, tensor in whole.items())


def test_a_budget_too_small_is_refused_before_training(base, tmp_path):
    little = EmaSettings(max_snapshots_gb=1.9 * network_bytes() / GB)
    problems = Problems()
    check_training(replace(base, ema=little), tmp_path / "run", Ranks(), problems)
    (sentence,) = problems.sentences
    assert re.match(r"ema\.max_snapshots_gb is .*, but the averages of this network take 0\.0182 GB", sentence)
    assert not (tmp_path / "run").exists()
    assert train(replace(base, num_iterations=1, ema=replace(little, enable=False)), tmp_path / "run", Ranks(), CPU)


def test_averages_of_other_widths_and_steps(base, files, tmp_path):
    found = RunAverages.open(base, files, [0.08], 4)
    found.write(tmp_path / "w.pth")
    written = torch.load(tmp_path / "w.pth", weights_only=True)
    expected = synthesize(files.ema_folder, (0.05, 0.1), 0.08, 4)
    assert list(written) == list(load_weights(files.weights_last))
    assert all(tensor.dtype == torch.float32 and torch.equal(tensor, expected[name]) for name, tensor in written.items())
    assert read_record(tmp_path / "w.pth") == replace(read_record(files.weights_last), step=5), "update 4 follows iteration 5"


def test_what_a_run_does_not_train_is_not_summed(base, files):
    found = RunAverages.open(replace(base, freeze=("clip_input_proj.*",)), files, [0.2])
    frozen, newest = next(found.state_dicts()), torch.load(files.ema_folder / "0.5.pt", weights_only=True)
    kept = [name for name, tensor in frozen.items() if torch.equal(tensor, newest[f"ema_model.{name}"])]
    assert {"clip_input_proj.0.weight", "latent_mean", "empty_string_feat"} <= set(kept)
    assert "sync_input_proj.0.weight" not in kept


def test_the_sweep_scores_as_training_does(base, files, tmp_path, monkeypatch):
    told = sweep(RunAverages.open(base, files, [0.05, 0.1, 0.2]), CPU)
    logged = [line["valid/loss"] for line in read_metrics(files.folder) if "valid/loss" in line]
    assert told.live.loss == pytest.approx(logged[-1], rel=1e-6)
    assert (told.live.step, told.step, told.val, told.num_rows) == (6, 5, ("held",), 5)
    assert [score.fit_error for score in told.scores[:2]] == [0, 0] and told.scores[2].fit_error > 0
    copy = RunFiles(tmp_path / "copy", NAME)
    shutil.copytree(files.folder, copy.folder)
    for profile, score in enumerate(told.scores[:2]):  # the stored averages, validated as if they were the live weights
        save_file(copy.weights_last, synthesize(files.ema_folder, (0.05, 0.1), score.sigma), read_record(files.weights_last))
        alone = sweep(RunAverages.open(base, copy, [0.05]), CPU, batch_size=profile + 1)
        assert alone.live.loss == pytest.approx(score.loss, rel=1e-5), "whatever the batch size"
    monkeypatch.setattr(averaging, "SUMS_BYTES", 1)  # room for one sum at a time
    assert sweep(RunAverages.open(base, files, [0.05, 0.1, 0.2]), CPU).scores == told.scores


def test_the_best_is_the_least_finite_loss():
    scores = (Score(0.05, 1.5, 0.0), Score(0.1, None, 0.0), Score(0.2, 1.2, 0.1))
    told = Sweep(7, scores, None, ("held",), 5)
    assert told.best == scores[2]
    assert told.entries()["losses"] == [1.5, None, 1.2]
    assert told.entries()["best"] == {"sigma": 0.2, "loss": 1.2, "fit_error": 0.1}


def test_what_a_run_cannot_give(base, files, tmp_path):
    with pytest.raises(UserError, match="no EMA snapshots"):
        RunAverages.open(base, RunFiles(tmp_path, NAME), [0.05])
    with pytest.raises(UserError, match=r"ema\.enable=False"):
        RunAverages.open(replace(base, ema=EmaSettings(enable=False)), files, [0.05])
    with pytest.raises(UserError, match=r"no EMA snapshot of step 3 .*stored are 2, 4, 5"):
        RunAverages.open(base, files, [0.05], 3)
    with pytest.raises(UserError, match="names no validation data"):
        sweep(RunAverages.open(replace(base, data=replace(base.data, val=())), files, [0.05]), CPU)
