"""What version 0.1 left on disk is read, and gone on with: stores, a run's folder, weights, averages, scores."""

import json
import shutil
import tarfile
from pathlib import Path

import pytest
import torch

from mmaudio.checkpoints.load import load_checkpoint, load_weights, read_record
from mmaudio.store import Store, table_path
from tests.conftest import train_in_process

LEFT = Path(__file__).parent / "golden" / "version_0_1.tar.gz"
LINE = ("exp_id=line", "solver.target=tests.trainer.line_solver.LineSolver", "+solver.options.slope=3.0", "device=cpu", "backend=lite")
STEPS = ("batch_size=4", "val_interval=3", "learning_rate=0.1", "linear_warmup_steps=0", "log_text_interval=2", "ema.checkpoint_every=3")
NO_DATA = ("data.train=[]", "data.val=[]", "data.test=[]")


@pytest.fixture(scope="module")
def left(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("before")
    with tarfile.open(LEFT) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.mark.parametrize(("name", "layout"), [("birds", "compact"), ("published", "published"), ("winds", "compact")])
def test_stores(left, run_command, name, layout):
    folder = left / "stores" / name
    store = Store.open(table_path(folder), folder)
    assert (store.num_rows, store.layout, store.ids) == (2, layout, [f"{name}-0", f"{name}-1"])
    assert store.gather(torch.tensor([0, 1]))["mean"][:, 0, 0].tolist() == [0.25, 0.5]
    ended = run_command("store", "verify", folder)
    assert ended.code == 0, ended.out + ended.err


def test_a_run_goes_on_as_the_same_one(left, tmp_path):
    shutil.copytree(left / "output", tmp_path / "output")
    run = tmp_path / "output" / "line"
    before = load_checkpoint(run / "line_ckpt_last.pth")
    assert (before.steps_done, set(before.weights)) == (6, {"weight", "bias"})
    assert torch.equal(load_weights(run / "line_last.pth")["weight"], before.weights["weight"])
    assert read_record(run / "line_ema_final.pth").step == 6
    train_in_process(tmp_path, *LINE, *STEPS, *NO_DATA, "num_iterations=9")
    assert load_checkpoint(run / "line_ckpt_last.pth").steps_done == 9
    told = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["steps_done"] for line in told if "valid/loss" in line] == [0, 3, 6, 9]
    assert {path.name for path in (run / "ema_ckpts").iterdir()} >= {"0.3.pt", "1.3.pt", "0.9.pt"}
    assert not list(tmp_path.rglob("*.aside"))  # nothing passed for somebody else's


def test_scores_are_compared_and_shown(left, run_command, tmp_path):
    made = left / "made" / "scores.json"
    assert "format_version" not in json.loads(made.read_text())
    ended = run_command("evaluate", "compare", made, left / "self.json")
    assert ended.code == 0 and "onset_f1" in ended.out, ended.err
    shutil.copytree(left / "output", tmp_path / "output")
    shutil.copy(made, tmp_path / "output" / "line" / "val-output_metrics.json")
    ended = run_command("report", tmp_path / "output" / "line", "--output", tmp_path / "page")
    assert "148" in (tmp_path / "page" / "index.html").read_text(), ended.err


def test_scores_of_a_version_to_come_are_refused(left, run_command, tmp_path):
    later = json.loads((left / "self.json").read_text()) | {"format_version": 99}
    (tmp_path / "later.json").write_text(json.dumps(later))
    ended = run_command("evaluate", "compare", left / "self.json", tmp_path / "later.json")
    assert ended.code == 2
    assert "format_version 99" in ended.err and "update mmaudio" in ended.err
