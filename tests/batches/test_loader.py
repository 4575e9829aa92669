"""Reading ahead: the right batches in the right order, errors that arrive, threads that end."""

import contextlib
import gc
import itertools
import threading
import time

import numpy as np
import pytest
import torch

from mmaudio.batches import Mixture, Source, read_ahead, shard, training_batches, training_rows, validation_batches
from tests.store.examples import SPEC, index_of, make_store


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = set(threading.enumerate())
    yield
    gc.collect()
    assert set(threading.enumerate()) <= before


@pytest.fixture
def mixture(tmp_path):
    seen, heard = make_store(tmp_path, "v", "video", index_of(4, "v")), make_store(tmp_path, "a", "audio", index_of(3, "a"))
    return Mixture([Source("v", "video", seen, 2), Source("a", "audio", heard)], SPEC)


def take(batches, count):
    with contextlib.closing(batches):
        return list(itertools.islice(batches, count))


def test_training_batches_are_the_rows_of_their_step(mixture):
    names = mixture.ids()
    for step, batch in enumerate(take(training_batches(mixture, seed=5, start_step=0, batch_size=4), 7)):
        assert batch.ids == [names[row] for row in training_rows(11, 4, 5, step)]
        assert batch.positions.tolist() == [0, 1, 2, 3]


def test_a_resumed_run_goes_on_where_it_was(mixture):
    whole = take(training_batches(mixture, seed=5, start_step=0, batch_size=3), 8)
    rest = take(training_batches(mixture, seed=5, start_step=5, batch_size=3), 3)
    for one, other in zip(whole[5:], rest, strict=True):
        assert one.ids == other.ids
        assert torch.equal(one.a_mean, other.a_mean)


def test_ranks_share_the_global_batch(mixture):
    (whole,) = take(training_batches(mixture, seed=1, start_step=3, batch_size=6), 1)
    parts = [take(training_batches(mixture, seed=1, start_step=3, batch_size=6, rank=rank, world_size=3), 1)[0] for rank in range(3)]
    assert [row_id for part in parts for row_id in part.ids] == whole.ids
    assert torch.equal(torch.cat([part.positions for part in parts]), whole.positions)
    assert torch.equal(torch.cat([part.sync_features for part in parts]), whole.sync_features)


def test_mistakes_are_found_before_the_first_batch(mixture):
    with pytest.raises(ValueError, match="batch_size is 12 and there are 11 rows"):
        training_batches(mixture, seed=0, start_step=0, batch_size=12)
    with pytest.raises(ValueError, match="does not divide"):
        training_batches(mixture, seed=0, start_step=0, batch_size=3, world_size=2)
    with pytest.raises(ValueError, match="batch_size is 0"):
        validation_batches(mixture, batch_size=0)


@pytest.mark.parametrize("world_size", [1, 2, 20])
def test_validation_takes_every_row_once_and_says_which(mixture, world_size):
    batches = [list(validation_batches(mixture, batch_size=2, rank=rank, world_size=world_size)) for rank in range(world_size)]
    found = {int(row): row_id for rank in batches for batch in rank for row, row_id in zip(batch.positions, batch.ids, strict=True)}
    assert found == dict(enumerate(mixture.ids()))
    assert sum(len(batch) for rank in batches for batch in rank) == len(mixture)


def test_errors_reach_the_consumer_after_the_results_before_them():
    def fails():
        raise OSError("the disk is gone")

    results = read_ahead(iter([lambda: 1, lambda: 2, fails, lambda: 4]), 2)
    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(OSError, match="the disk is gone"):
        next(results)
    assert list(results) == []


def test_errors_of_the_order_itself_reach_the_consumer():
    def broken():
        yield lambda: 1
        raise RuntimeError("no order")

    with pytest.raises(RuntimeError, match="no order"):
        list(read_ahead(broken(), 2))


def test_a_store_cut_short_while_training_is_an_error(mixture):
    with open(mixture.sources[0].store.memmap_dir / "sync_features.memmap", "r+b") as file:
        file.truncate(100)
    with pytest.raises(OSError, match="cut short"):
        list(validation_batches(mixture, batch_size=2))


def test_keeps_no_more_than_asked_for_waiting():
    made = []
    results = read_ahead((lambda number=number: made.append(number) for number in itertools.count()), 3)
    next(results)
    time.sleep(0.05)
    assert len(made) <= 4
    results.close()


def test_thread_ends_when_the_iterator_is_closed_dropped_or_done():
    num_before = threading.active_count()
    endless = read_ahead((lambda: 0 for _ in itertools.count()), 2)
    next(endless)
    assert threading.active_count() == num_before + 1
    endless.close()
    assert threading.active_count() == num_before
    dropped = read_ahead((lambda: 0 for _ in itertools.count()), 2)
    next(dropped)
    del dropped
    gc.collect()
    assert threading.active_count() == num_before
    assert list(read_ahead(iter([lambda: 1]), 1)) == [1]
    assert threading.active_count() == num_before
    never_started = read_ahead(iter([lambda: 1]), 1)
    never_started.close()
    assert threading.active_count() == num_before


def test_shards_of_the_loader_are_those_of_order(mixture):
    rows, positions = shard(training_rows(11, 4, 0, 0), 1, 2)
    (batch,) = take(training_batches(mixture, seed=0, start_step=0, batch_size=4, rank=1, world_size=2), 1)
    assert batch.ids == [mixture.ids()[row] for row in rows]
    assert np.array_equal(batch.positions.numpy(), positions)
