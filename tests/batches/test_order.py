"""Which rows make up which step, by walking all of them."""

import numpy as np
import pytest

from mmaudio.batches.order import num_steps_per_epoch, shard, training_rows, validation_rows


def test_an_epoch_has_every_row_once_and_drops_the_incomplete_batch():
    seen = np.concatenate([training_rows(23, 4, seed=1, step=step) for step in range(5)])
    assert len(set(seen)) == len(seen) == 20
    assert set(seen) <= set(range(23))
    following = np.concatenate([training_rows(23, 4, seed=1, step=step) for step in range(5, 10)])
    assert set(following) <= set(range(23))
    assert not np.array_equal(seen, following)


def test_rows_depend_on_seed_and_step_alone():
    backwards = {step: training_rows(50, 7, seed=3, step=step).copy() for step in reversed(range(30))}
    for step in range(30):
        assert np.array_equal(training_rows(50, 7, seed=3, step=step), backwards[step])
    assert not np.array_equal(training_rows(50, 7, seed=4, step=0), backwards[0])
    # Two batch sizes walk the same order.
    assert np.array_equal(training_rows(50, 14, seed=3, step=0), np.concatenate([backwards[0], backwards[1]]))


def test_order_of_a_seed_is_for_ever():
    """A recorded answer: a resumed run may have been started by another release."""
    assert training_rows(10, 5, seed=0, step=0).tolist() == ORDER[:5]
    assert training_rows(10, 5, seed=0, step=1).tolist() == ORDER[5:]


ORDER = [0, 7, 8, 6, 9, 5, 1, 3, 2, 4]


@pytest.mark.parametrize("world_size", [1, 2, 3, 6])
def test_ranks_together_have_the_global_batch(world_size):
    rows = training_rows(40, 12, seed=0, step=2)
    parts = [shard(rows, rank, world_size) for rank in range(world_size)]
    assert np.array_equal(np.concatenate([part for part, _ in parts]), rows)
    assert np.array_equal(np.concatenate([positions for _, positions in parts]), np.arange(12))


@pytest.mark.parametrize("num_rows", [0, 1, 7, 12])
@pytest.mark.parametrize("world_size", [1, 2, 5])
def test_validation_has_every_row_once(num_rows, world_size):
    batches = [validation_rows(num_rows, 3, rank, world_size) for rank in range(world_size)]
    assert all(1 <= len(batch) <= 3 for rank in batches for batch in rank)
    assert sorted(row for rank in batches for batch in rank for row in batch) == list(range(num_rows))
    assert all((batch % world_size == rank).all() for rank, parts in enumerate(batches) for batch in parts)


def test_refuses_what_does_not_divide():
    assert num_steps_per_epoch(23, 4) == 5
    for batch_size in (0, 24):
        with pytest.raises(ValueError, match=f"batch_size is {batch_size} and there are 23 rows"):
            training_rows(23, batch_size, 0, 0)
    with pytest.raises(ValueError, match="4 does not divide among 3 ranks"):
        shard(np.arange(4), 0, 3)
    with pytest.raises(ValueError, match="batch_size is 0"):
        validation_rows(4, 0, 0, 1)
