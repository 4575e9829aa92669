"""Thirty steps of a tiny run, against the curve that is kept: a change of the arithmetic shows, whatever else passes.

After a change that is meant to move it, print the new one: `python -m tests.trainer.test_loss_curve`.
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch

from mmaudio.distributed.ranks import Ranks
from mmaudio.trainer.tracker import read_metrics
from tests.trainer.tiny_runs import train
from tests.trainer.tiny_stores import tiny_settings, write_tiny_data

CURVE = Path(__file__).resolve().parents[1] / "golden" / "loss_curve.json"
STEPS = 30


def curve_of(folder: Path) -> dict[str, list[float]]:
    """Loss and gradient norm of each step, and the losses of the held-out rows, of one seed on made-up rows."""
    data = write_tiny_data(folder)
    often = {"log_text_interval": 1, "val_interval": 10, "num_iterations": STEPS}
    settings = tiny_settings(data, "curve", val=("held",), lr_schedule="constant", **often)
    assert train(settings, folder / "curve", Ranks(), torch.device("cpu"))
    lines = read_metrics(folder / "curve")
    return {name: [line[name] for line in lines if name in line] for name in ("train/loss", "train/grad_norm", "valid/loss")}


def test_the_curve_is_the_one_that_is_kept(tmp_path):
    kept, found = json.loads(CURVE.read_text()), curve_of(tmp_path)
    assert [len(values) for values in found.values()] == [STEPS, STEPS, 4]
    assert sum(found["train/loss"][-5:]) < 0.95 * sum(found["train/loss"][:5]), "rows of noise are learned by heart"
    for name, values in kept.items():
        assert found[name] == pytest.approx(values, rel=1e-3), name


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        print(json.dumps({name: [round(value, 7) for value in values] for name, values in curve_of(Path(folder)).items()}))
