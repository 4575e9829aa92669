"""What names a run, and what does not."""

import json
import logging
from dataclasses import replace

import pytest

from mmaudio.runs.signature import defining_values, record_signature, recorded_settings, signature
from mmaudio.settings.data_sources import DataSettings, SourceSettings
from mmaudio.settings.schema import EmaSettings, TrainSettings

SOURCES = {"a": SourceSettings(tsv="a.tsv", memmap_dir="a"), "b": SourceSettings(tsv="b.tsv", memmap_dir="b")}
BASE = TrainSettings(data=DataSettings(SOURCES, train=("a",)))


@pytest.mark.parametrize(
    "change",
    [
        {"batch_size": 8},
        {"model": "tiny_16k"},
        {"seed": 1},
        {"ema": EmaSettings(sigma_rels=(0.05,))},
        {"data": replace(BASE.data, train=("a", "b"))},
        {"data": DataSettings(SOURCES | {"a": replace(SOURCES["a"], repeat=2)}, train=("a",))},
    ],
)
def test_what_is_learned_names_a_run(change):
    assert signature(replace(BASE, **change)) != signature(BASE)


@pytest.mark.parametrize(
    "change",
    [
        {"exp_id": "x"},
        {"device": "cpu", "num_workers": 3, "compile": True},
        {"log_text_interval": 1, "debug": True},
        {"ema": EmaSettings(checkpoint_folder="elsewhere")},
        {"data": DataSettings({"a": SOURCES["a"]}, train=("a",))},
    ],
)
def test_where_and_how_often_does_not(change):
    assert signature(replace(BASE, **change)) == signature(BASE)


def test_defaults_are_left_out_so_that_new_settings_rename_nothing():
    assert defining_values(BASE) == {"data.train": ("a",), "data.val": (), "data.a.tsv": "a.tsv", "data.a.memmap_dir": "a"}
    assert len(signature(BASE)) == 10


def test_going_on_with_other_settings_is_told(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        assert recorded_settings(tmp_path) is None
        record_signature(tmp_path, BASE)
        record_signature(tmp_path, BASE)
        assert caplog.text == ""
        record_signature(tmp_path, replace(BASE, batch_size=8))
    assert "begun with batch_size = the default and goes on with 8" in caplog.text
    assert recorded_settings(tmp_path)["batch_size"] == 8
    assert json.loads((tmp_path / "signature.json").read_text())["signature"] == signature(replace(BASE, batch_size=8))
