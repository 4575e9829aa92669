"""Choices of a run about its conditions: v2 networks, how nulls are drawn, the final layer, conditions done without."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mmaudio.base.errors import Problems
from mmaudio.distributed.ranks import Ranks
from mmaudio.settings.data_sources import DataSettings, SourceSettings
from mmaudio.settings.schema import EmaSettings, TrainSettings
from mmaudio.trainer.checks import check_training
from tests.trainer.tiny_runs import train
from tests.trainer.tiny_stores import tiny_settings, write_tiny_store

NAME = "choices"


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> TrainSettings:
    folder = tmp_path_factory.mktemp("data")
    write_tiny_store(folder, "birds", "video", 6, mode="44k")
    changes = {"model": "nano_44k", "linear_warmup_steps": 0, "null_condition_probability": 0.5, "ema": EmaSettings(enable=False)}
    return tiny_settings(folder, NAME, ("birds",), ("birds",), num_iterations=3, validate_first=False, **changes)


def trained(settings: TrainSettings, folder: Path) -> dict[str, torch.Tensor]:
    assert train(settings, folder, Ranks(), torch.device("cpu"))
    return torch.load(folder / f"{NAME}_last.pth", weights_only=True)


@pytest.fixture(scope="module")
def default(base, tmp_path_factory) -> tuple[dict[str, torch.Tensor], Path]:
    """The weights of a run with these settings, and its folder."""
    folder = tmp_path_factory.mktemp("default")
    return trained(base, folder), folder


@pytest.fixture(scope="module")
def extended(base, tmp_path_factory) -> tuple[dict[str, torch.Tensor], Path]:
    """The same of a run whose final layer is told of sync."""
    folder = tmp_path_factory.mktemp("extended")
    return trained(replace(base, final_cond="extended"), folder), folder


def differing(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> list[str]:
    assert one.keys() == other.keys()
    return [name for name in one if not torch.equal(one[name], other[name])]


@pytest.mark.parametrize("null_sampling", ["joint", "independent"])
def test_v2_trains_as_v1_does(base, tmp_path, null_sampling):
    settings = replace(base, model="nano_44k_v2", null_sampling=null_sampling)
    weights = trained(settings, tmp_path)
    assert "clip_input_proj.2.w1.weight" in weights
    assert all(tensor.isfinite().all() for tensor in weights.values())
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert any(name.startswith("valid/") for name in last)


def test_how_nulls_are_drawn_matters_and_joint_is_the_default(base, default, tmp_path):
    assert differing(default[0], trained(replace(base, null_sampling="joint"), tmp_path / "joint")) == []
    assert differing(default[0], trained(replace(base, null_sampling="independent"), tmp_path / "independent"))


def test_the_final_layer_is_recorded(default, extended):
    assert differing(default[0], extended[0])
    records = [json.loads((folder / f"{NAME}_last.pth.json").read_text()) for _, folder in (default, extended)]
    assert [record["final_cond"] for record in records] == ["global", "extended"]


def test_a_run_that_drops_sync_never_looks_at_it(base, tmp_path):
    settings = replace(base, drop_conditions=("sync",), null_condition_probability=0.0)
    other = write_tiny_store(tmp_path, "birds", "video", 6, mode="44k")
    changed = torch.from_file(str(other / "sync_features.memmap"), shared=True, size=6 * 16 * 768, dtype=torch.bfloat16)
    changed.fill_(3.0)
    source = SourceSettings(tsv=str(tmp_path / "birds.tsv"), memmap_dir=str(other))
    with_other_sync = replace(settings, data=DataSettings({"birds": source}, ("birds",), ("birds",)))
    weights = trained(settings, tmp_path / "one")
    assert differing(weights, trained(with_other_sync, tmp_path / "two")) == []
    assert json.loads((tmp_path / "one" / f"{NAME}_last.pth.json").read_text())["dropped"] == ["sync"]
    kept = replace(settings, drop_conditions=())
    assert differing(trained(kept, tmp_path / "three"), trained(replace(with_other_sync, drop_conditions=()), tmp_path / "four"))


def test_an_unknown_condition_is_refused(base, tmp_path):
    problems = Problems()
    check_training(replace(base, drop_conditions=("snyc",)), tmp_path, Ranks(), problems)
    assert "drop_conditions names 'snyc' (did you mean 'sync'?); known are clip, sync, text" in "\n".join(problems.sentences)


def test_a_run_does_not_go_on_with_other_conditions(base, default):
    for key, change, words in (
        ("final_cond", {"final_cond": "extended"}, "with final_cond=global, not final_cond=extended"),
        ("dropped", {"drop_conditions": ("sync", "clip")}, "with drop_conditions=[], not drop_conditions=[clip,sync]"),
    ):
        problems = Problems()
        check_training(replace(base, num_iterations=4, **change), default[1], Ranks(), problems)
        assert any(words in sentence for sentence in problems.sentences), key


def test_neither_does_another_run_from_its_checkpoint(base, tmp_path):
    trained(replace(base, final_cond="extended", drop_conditions=("sync",)), tmp_path / "one")
    checkpoint = tmp_path / "one" / f"{NAME}_ckpt_last.pth"
    problems = Problems()
    check_training(replace(base, num_iterations=4, checkpoint=str(checkpoint)), tmp_path / "two", Ranks(), problems)
    want = "is of a run with final_cond=extended drop_conditions=[sync], not final_cond=global drop_conditions=[]; give these settings,"
    assert any(f"{checkpoint} {want}" in sentence for sentence in problems.sentences)


def test_weights_of_another_final_layer_are_refused(base, extended, tmp_path):
    weights = str(extended[1] / f"{NAME}_last.pth")
    problems = Problems()
    check_training(replace(base, weights=weights), tmp_path, Ranks(), problems)
    assert [s for s in problems.sentences if "was trained with final_cond=extended; add final_cond=extended" in s]
