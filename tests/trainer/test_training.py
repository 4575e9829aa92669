"""Whole runs on a tiny network: resuming equals not stopping, what is saved when, and what a bad number does."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mmaudio.checkpoints.ema_snapshots import list_snapshots
from mmaudio.checkpoints.run_files import RunFiles
from mmaudio.distributed.ranks import Ranks
from mmaudio.settings.schema import EmaSettings, TrainSettings
from mmaudio.trainer.optimizer import NonFiniteError
from mmaudio.trainer.tracker import read_metrics
from tests.trainer.tiny_runs import train
from tests.trainer.tiny_stores import tiny_settings, write_tiny_data

NAME = "last_run"


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> TrainSettings:
    folder = write_tiny_data(tmp_path_factory.mktemp("data"))
    often = {"log_text_interval": 2, "val_interval": 4, "save_checkpoint_interval": 4, "ema": EmaSettings(checkpoint_every=4)}
    return tiny_settings(folder, NAME, val=("held",), num_iterations=6, **often)


def run(settings: TrainSettings, folder: Path, **extras) -> bool:
    return train(settings, folder, Ranks(), torch.device("cpu"), **extras)


@pytest.fixture(scope="module")
def straight(base, tmp_path_factory) -> Path:
    """Six iterations without a stop."""
    folder = tmp_path_factory.mktemp("straight")
    assert run(base, folder)
    return folder


def tensors(value, prefix="") -> dict[str, torch.Tensor]:
    """Every tensor of a nest of dictionaries and lists, by path."""
    if isinstance(value, torch.Tensor):
        return {prefix: value}
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return {name: tensor for key, part in items for name, tensor in tensors(part, f"{prefix}/{key}").items()}


def assert_same_end(folder: Path, other: Path) -> None:
    """Both runs ended in bitwise the same checkpoint and averaged weights."""
    for name in (f"{NAME}_ckpt_last.pth", f"{NAME}_last.pth", f"{NAME}_ema_final.pth"):
        mine, theirs = (tensors(torch.load(each / name, weights_only=True)) for each in (folder, other))
        assert mine.keys() == theirs.keys()
        assert [key for key in mine if not torch.equal(mine[key], theirs[key])] == []


def test_what_a_run_leaves(straight):
    files = RunFiles(straight, NAME)
    checkpoint = torch.load(files.checkpoint_last, weights_only=True)
    assert (checkpoint["it"], checkpoint["scheduler"]["last_epoch"]) == (6, 6)
    assert torch.load(files.checkpoint_shadow, weights_only=True)["it"] == 4
    assert {(snapshot.index, snapshot.n) for snapshot in list_snapshots(files.ema_folder)} == {(0, 4), (1, 4), (0, 6), (1, 6)}
    final, stored = torch.load(files.ema_final, weights_only=True), torch.load(files.ema_folder / "0.6.pt", weights_only=True)
    assert all(torch.equal(tensor, stored[f"ema_model.{name}"]) for name, tensor in final.items())
    assert list(final) == list(checkpoint["weights"])
    assert len(checkpoint["optimizer"]["state"]) == len(checkpoint["weights"]) - 3
    assert list(straight.glob("events.out.tfevents.*"))


def test_metrics_of_a_run(straight):
    lines = read_metrics(straight)
    assert [line["steps_done"] for line in lines if "train/loss" in line] == [2, 4, 6]
    valid = [line for line in lines if "valid/loss" in line]
    assert [line["steps_done"] for line in valid] == [0, 4, 6]
    assert valid[-1]["valid/loss"] < valid[0]["valid/loss"]
    assert len(valid[0]["valid/binned_loss"]) == 25
    assert [line["train/lr"] for line in lines if "train/lr" in line] == pytest.approx([5e-4, 1e-3, 1e-3])


def test_stopped_and_resumed_equals_straight(base, straight, tmp_path):
    def stop(trainer, steps_done):
        os.kill(os.getpid(), signal.SIGTERM)
        return {}

    assert not run(replace(base, eval_interval=3), tmp_path, evaluate=stop)
    assert torch.load(RunFiles(tmp_path, NAME).checkpoint_last, weights_only=True)["it"] == 3
    assert run(base, tmp_path)
    assert_same_end(tmp_path, straight)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_crash_saves_nothing_and_the_run_goes_on_from_before(base, straight, tmp_path):
    def crash(trainer, steps_done):
        raise KeyboardInterrupt  # no mere error ends a run here

    with pytest.raises(KeyboardInterrupt):
        run(replace(base, eval_interval=6, ema=EmaSettings(checkpoint_every=1)), tmp_path, evaluate=crash)
    files = RunFiles(tmp_path, NAME)
    assert torch.load(files.checkpoint_last, weights_only=True)["it"] == 4
    assert run(base, tmp_path)
    assert_same_end(tmp_path, straight)
    assert {path.name for path in (files.ema_folder / "stale").iterdir()} == {"0.5.pt", "1.5.pt"}
    assert [line["steps_done"] for line in read_metrics(tmp_path) if "valid/loss" in line] == [0, 4, 6]


def test_a_finished_run_stays_as_it_is(base, straight):
    before = {path.name: path.stat().st_mtime_ns for path in straight.glob("*.pth")}
    lines = read_metrics(straight)
    assert run(base, straight)
    after = {path.name: path.stat().st_mtime_ns for path in straight.glob("*.pth")}
    assert {name for name in after if after[name] != before[name]} <= {f"{NAME}_ema_final.pth"}
    assert read_metrics(straight) == lines


def test_a_number_that_is_none_stops_before_the_step(base, tmp_path):
    def poison(trainer, steps_done):
        with torch.no_grad():
            trainer.state.network.final_layer.conv.bias[0] = float("nan")
        return {}

    with pytest.raises(NonFiniteError, match=r"the loss of iteration 5 is not finite; rows: \w+/\w+-\d"):
        run(replace(base, eval_interval=5), tmp_path, evaluate=poison)
    assert torch.load(RunFiles(tmp_path, NAME).checkpoint_last, weights_only=True)["it"] == 4


def test_debug_saves_nothing_at_exit(base, tmp_path):
    assert run(replace(base, debug=True, num_iterations=2), tmp_path)
    assert {path.name for path in tmp_path.glob("*.pth")} == {f"{NAME}_ema_final.pth", f"{NAME}_best.pth"}


def test_copies_and_a_run_without_averages(base, straight, tmp_path):
    settings = replace(base, num_iterations=3, save_copy_iterations=(1, 2), ema=EmaSettings(enable=False), validate_first=False)
    assert run(settings, tmp_path)
    names = {path.name.removeprefix(f"{NAME}_") for path in tmp_path.glob("*.pth")}
    assert names == {"1.pth", "2.pth", "ckpt_1.pth", "ckpt_2.pth", "last.pth", "ckpt_last.pth", "best.pth"}
    assert torch.load(tmp_path / f"{NAME}_ckpt_2.pth", weights_only=True)["ema"] is None
    assert run(replace(settings, num_iterations=4, ema=EmaSettings()), tmp_path)  # averaging may begin late
    assert (tmp_path / f"{NAME}_ema_final.pth").is_file()


def test_weights_start_anew_and_a_checkpoint_goes_on(base, straight, tmp_path):
    start = torch.load(straight / f"{NAME}_last.pth", weights_only=True)
    steps = {}

    def look(trainer, steps_done):
        steps[steps_done] = {name: tensor.clone() for name, tensor in trainer.state.network.state_dict().items()}
        return {}

    tuned = replace(base, weights=str(straight / f"{NAME}_last.pth"), num_iterations=1, learning_rate=1e-12, eval_interval=1)
    assert run(tuned, tmp_path / "tuned", evaluate=look)
    assert all(torch.allclose(steps[1][name], tensor, atol=1e-6) for name, tensor in start.items())
    other = replace(base, exp_id="other", checkpoint=str(straight / f"{NAME}_ckpt_shadow.pth"))
    assert run(other, tmp_path / "other")
    mine = torch.load(tmp_path / "other" / "other_last.pth", weights_only=True)
    assert all(torch.equal(mine[name], tensor) for name, tensor in start.items())


def test_previews_come_first_and_at_their_interval(base, tmp_path):
    seen = []

    def preview(trainer, steps_done):
        seen.append(steps_done)
        return {}

    assert run(replace(base, num_iterations=3, log_extra_interval=2), tmp_path, generate=preview)
    assert seen == [0, 2]


def test_a_skipped_checkpoint_is_told(base, tmp_path, caplog):
    settings = replace(base, num_iterations=2, save_checkpoint_interval=1, val_interval=0)
    assert run(settings, tmp_path)
    path = RunFiles(tmp_path, NAME).checkpoint_last
    path.write_bytes(path.read_bytes()[:1000])
    with caplog.at_level("WARNING"):
        assert run(settings, tmp_path)
    assert f"skipped a checkpoint: {path} is no readable weights file" in caplog.text
    assert torch.load(path, weights_only=True)["it"] == 2


def test_the_last_averages_are_of_the_last_iteration(base, tmp_path):
    def stop(trainer, steps_done):
        os.kill(os.getpid(), signal.SIGTERM)
        return {}

    seldom, often = (replace(base, num_iterations=4, ema=EmaSettings(checkpoint_every=every)) for every in (100, 2))
    assert not run(replace(seldom, num_iterations=6, eval_interval=4), tmp_path, evaluate=stop)
    assert run(often, tmp_path)  # nothing is left to do, and no snapshot of the fourth update was ever due
    assert {snapshot.n for snapshot in list_snapshots(RunFiles(tmp_path, NAME).ema_folder)} == {4}
    assert (tmp_path / f"{NAME}_ema_final.pth").is_file()


def test_no_validation_at_all(base, tmp_path):
    assert run(replace(base, num_iterations=2, val_interval=0), tmp_path)
    assert not any("valid/loss" in line for line in read_metrics(tmp_path))


def test_audio_alone_trains(base, tmp_path):
    assert run(replace(base, num_iterations=2, data=replace(base.data, train=("winds",), val=())), tmp_path)
