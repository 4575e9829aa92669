"""Reading ahead: the right batches in the right order, buffers that are reused, errors that arrive, threads that end."""

import contextlib
import gc
import itertools
import threading
import time

import numpy as np
import pytest
import torch

from mmaudio.batches import Mixture, Source, prefetch, shard, training_batches, training_rows, validation_batches
from tests.batches.plain import assert_plain, take
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


def calls(*functions):
    """Results made one at a time, when they are asked for."""
    for function in functions:
        yield function()


def test_training_batches_are_the_rows_of_their_step(mixture):
    names = mixture.ids()
    for step, batch in enumerate(take(training_batches(mixture, seed=5, start_step=0, batch_size=4), 7)):
        assert batch.ids == [names[row] for row in training_rows(11, 4, 5, step)]
        assert batch.positions.tolist() == [0, 1, 2, 3]


def test_a_resumed_run_goes_on_where_it_was(mixture):
    whole = take(training_batches(mixture, seed=5, start_step=0, batch_size=3), 8)
    rest = take(training_batches(mixture, seed=5, start_step=5, batch_size=3, num_threads=1, ahead=1), 3)
    for one, other in zip(whole[5:], rest, strict=True):
        assert one.ids == other.ids
        assert torch.equal(one.a_mean, other.a_mean)
        assert torch.equal(one.sync_features, other.sync_features)


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
    batches = [take(validation_batches(mixture, batch_size=2, rank=rank, world_size=world_size), None) for rank in range(world_size)]
    found = {int(row): row_id for rank in batches for batch in rank for row, row_id in zip(batch.positions, batch.ids, strict=True)}
    assert found == dict(enumerate(mixture.ids()))
    assert sum(len(batch) for rank in batches for batch in rank) == len(mixture)


@pytest.mark.parametrize("ahead", [1, 2, 4])
def test_buffers_are_reused_and_a_batch_is_safe_until_the_next_is_asked_for(mixture, ahead):
    seen = []
    with contextlib.closing(training_batches(mixture, seed=2, start_step=0, batch_size=4, ahead=ahead)) as batches:
        for step, batch in enumerate(itertools.islice(batches, 4 * (ahead + 1))):
            time.sleep(0.01)  # all that is read ahead is read by now
            assert_plain(batch, mixture, training_rows(11, 4, 2, step))
            seen.append(batch.a_mean.data_ptr())
    assert len(set(seen)) == ahead + 1
    assert seen == seen[: ahead + 1] * 4
    assert all(address % 4096 == 0 for address in seen)


def test_errors_reach_the_consumer_after_the_results_before_them():
    def fails():
        raise OSError("the disk is gone")

    results = prefetch(calls(lambda: 1, lambda: 2, fails, lambda: 4), 2)
    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(OSError, match="the disk is gone"):
        next(results)
    assert list(results) == []


@pytest.mark.parametrize("num_threads", [1, 2])
def test_a_store_cut_short_while_training_is_an_error(mixture, num_threads):
    with open(mixture.sources[0].store.memmap_dir / "sync_features.memmap", "r+b") as file:
        file.truncate(100)
    with pytest.raises(OSError, match=r"sync_features ends before row .* cut short"):
        list(validation_batches(mixture, batch_size=2, num_threads=num_threads))


def test_keeps_no_more_than_asked_for_waiting():
    made = []
    results = prefetch((made.append(number) for number in itertools.count()), 3)
    next(results)
    time.sleep(0.05)
    assert len(made) <= 4
    results.close()


def test_thread_ends_when_the_iterator_is_closed_dropped_or_done():
    num_before = threading.active_count()
    endless = prefetch(itertools.repeat(0), 2)
    next(endless)
    assert threading.active_count() == num_before + 1
    endless.close()
    assert threading.active_count() == num_before
    dropped = prefetch(itertools.repeat(0), 2)
    next(dropped)
    del dropped
    gc.collect()
    assert threading.active_count() == num_before
    assert list(prefetch(iter([1]), 1)) == [1]
    assert threading.active_count() == num_before
    never_started = prefetch(iter([1]), 1)
    never_started.close()
    assert threading.active_count() == num_before


def test_what_makes_the_results_is_closed_in_its_thread():
    closed_by = []

    def endless():
        try:
            while True:
                yield 0
        finally:
            closed_by.append(threading.current_thread().name)

    results = prefetch(endless(), 2)
    next(results)
    results.close()
    assert closed_by == ["read-ahead"]


@pytest.mark.parametrize("how", ["closed", "dropped"])
def test_threads_that_read_rows_end_with_the_iterator(mixture, how):
    num_before = threading.active_count()
    batches = training_batches(mixture, seed=0, start_step=0, batch_size=4, num_threads=3)
    next(batches)
    assert threading.active_count() > num_before
    if how == "closed":
        batches.close()
    else:
        del batches
        gc.collect()
    assert threading.active_count() == num_before


def test_shards_of_the_loader_are_those_of_order(mixture):
    rows, positions = shard(training_rows(11, 4, 0, 0), 1, 2)
    (batch,) = take(training_batches(mixture, seed=0, start_step=0, batch_size=4, rank=1, world_size=2), 1)
    assert batch.ids == [mixture.ids()[row] for row in rows]
    assert np.array_equal(batch.positions.numpy(), positions)
