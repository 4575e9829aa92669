"""What the objective gets of a batch: told features cast exactly, and nothing for who has none."""

from contextlib import closing

import numpy as np
import pytest
import torch

from mmaudio.base.rng import CounterRng
from mmaudio.batches import Mixture, Placement, Source, training_batches, training_rows
from mmaudio.flow.guidance import ConditionDropout, choose_present, draw_dropout
from mmaudio.flow.loss import FlowBatch, FlowSettings, draw_flow
from mmaudio.network import build_network
from mmaudio.trainer.flow_solver import FlowObjective, to_flow_batch
from tests.golden.fill import fill_
from tests.trainer.tiny_stores import DURATION_S, SPEC, write_tiny_store

CPU, NULLS = torch.device("cpu"), ConditionDropout(0.25)
INDICES = np.array([5, 0, 6, 2, 1, 7])  # samples of two kinds, mixed


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    folders = {kind: write_tiny_store(tmp_path_factory.mktemp(kind), kind, kind, 5) for kind in ("video", "audio")}
    sources = [Source.open(kind, folder.with_name(f"{kind}.tsv"), folder) for kind, folder in folders.items()]
    return Mixture(sources, SPEC).gather(INDICES)


def test_conditions_stay_as_they_are_stored_and_latents_are_float32(batch):
    fed = to_flow_batch(batch, CounterRng(0, 1, batch.positions), NULLS, CPU)
    assert fed.a_mean.dtype == fed.a_std.dtype == torch.float32
    assert torch.equal(fed.a_mean, batch.a_mean)
    for name, stored in (("clip_features", batch.clip_features), ("text_features", batch.text_table)):
        assert getattr(fed, name).dtype == torch.bfloat16
        assert getattr(fed, name).data_ptr() == stored.data_ptr(), "no copy"


def test_captions_are_taken_from_their_table(tmp_path):
    folder = write_tiny_store(tmp_path, "audio", "audio", 5)
    mixture = Mixture([Source.open("audio", folder.with_name("audio.tsv"), folder)], SPEC)
    place = Placement.of(mixture, CPU, caption_table_gb=1.0)
    with closing(training_batches(mixture, seed=0, start_step=0, batch_size=5, placement=place)) as batches:
        batch = next(batches)
        assert batch.text_table.data_ptr() == place.tables["text_features"].values.data_ptr()
        assert len(batch.text_table) == 3
        plain = mixture.gather(training_rows(5, 5, 0, 0))
        assert torch.equal(batch.text_features, plain.text_features)
        part = batch.part(2, 4)
        assert torch.equal(part.text_features, plain.text_features[2:4])
        told = to_flow_batch(part, CounterRng(0, 0, part.positions), ConditionDropout(0.0), CPU).present.text
        assert told.rows.tolist() == batch.text_rows[2:4].tolist()


@pytest.mark.parametrize("step", range(4))
def test_the_loss_is_that_of_blanks_for_what_is_missing(batch, step):
    network = build_network("nano_16k", duration_s=DURATION_S)
    fill_(network)
    objective = FlowObjective(network, FlowSettings(nulls=NULLS), amp=False)
    chance = CounterRng(7, step, batch.positions)
    draws = draw_flow(chance, *batch.a_mean.shape[1:])
    clip, sync = (batch.one_a_sample(rows).float() for rows in (batch.clip_features, batch.sync_features))
    told = choose_present(batch.video_exist, batch.text_exist, draw_dropout(chance), NULLS)
    blanks = FlowBatch(batch.a_mean, batch.a_std, clip, sync, batch.text_features.float(), told)
    fed = to_flow_batch(batch, chance, NULLS, CPU)
    assert len(fed.clip_features) < len(blanks.clip_features)
    with torch.no_grad():
        assert torch.equal(objective(fed, draws)[0], objective(blanks, draws)[0])
