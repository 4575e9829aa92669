"""The validation loss is one number of one network."""

import numpy as np
import pytest
import torch

from mmaudio.batches import Mixture, Source
from mmaudio.distributed.ranks import Ranks
from mmaudio.flow.loss import FlowSettings
from mmaudio.network import build_network
from mmaudio.trainer.flow_solver import FlowObjective, validate
from tests.golden.fill import fill_
from tests.trainer.tiny_stores import DURATION_S, SPEC, write_tiny_store

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def objective() -> FlowObjective:
    network = build_network("nano_16k", duration_s=DURATION_S)
    fill_(network)
    return FlowObjective(network, FlowSettings(), amp=False)


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> Mixture:
    folder = write_tiny_store(tmp_path_factory.mktemp("store"), "held", "video", 5)
    return Mixture([Source.open("held", folder.with_name("held.tsv"), folder)], SPEC)


def loss_of(objective, rows, batch_size, ranks=Ranks()) -> dict:  # noqa: B008 - frozen
    return validate(objective, rows, seed=3, batch_size=batch_size, ranks=ranks, device=CPU)


def test_twice_the_same(objective, rows):
    first, second = loss_of(objective, rows, 2), loss_of(objective, rows, 2)
    assert first["loss"] == second["loss"]
    np.testing.assert_array_equal(first["binned_loss"], second["binned_loss"])


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_any_batch_size(objective, rows, batch_size):
    whole = loss_of(objective, rows, 5)
    assert loss_of(objective, rows, batch_size)["loss"] == pytest.approx(whole["loss"], rel=1e-6)


def test_any_number_of_processes(objective, rows):
    parts = [loss_of(objective, rows, 2, Ranks(rank, 2))["loss"] for rank in (0, 1)]  # rows 0 2 4, and rows 1 3
    assert (3 * parts[0] + 2 * parts[1]) / 5 == pytest.approx(loss_of(objective, rows, 5)["loss"], rel=1e-6)


def test_another_seed_is_other_noise(objective, rows):
    other = validate(objective, rows, seed=4, batch_size=5, ranks=Ranks(), device=CPU)
    assert other["loss"] != loss_of(objective, rows, 5)["loss"]
