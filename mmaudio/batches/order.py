"""Which rows make up which step: integers in, index arrays out. Nothing here knows what a row is."""

from functools import lru_cache

import numpy as np

from mmaudio.base.rng import permutation


def num_steps_per_epoch(num_rows: int, batch_size: int) -> int:
    """Whole global batches in one pass over the data; the incomplete last one is dropped.

    Raises: ValueError where there is no whole batch.
    """
    if not 1 <= batch_size <= num_rows:
        raise ValueError(f"batch_size is {batch_size} and there are {num_rows} rows; want 1 to {num_rows}")
    return num_rows // batch_size


@lru_cache(maxsize=2)  # the epoch under way, and the one a loader that reads ahead has begun
def _epoch_order(num_rows: int, seed: int, epoch: int) -> np.ndarray:
    order = permutation(num_rows, seed, epoch)
    order.setflags(write=False)
    return order


def training_rows(num_rows: int, batch_size: int, seed: int, step: int) -> np.ndarray:
    """Rows of the global batch of a step: (batch_size,) int64, a function of the arguments alone.

    Args:
        num_rows: rows of the data, repeats counted.
        batch_size: rows per step, all ranks together.
        seed: of the run.
        step: steps done before this one, over all epochs.
    Raises: ValueError where there is no whole batch.
    """
    epoch, place = divmod(step, num_steps_per_epoch(num_rows, batch_size))
    return _epoch_order(num_rows, seed, epoch)[place * batch_size : (place + 1) * batch_size]


def shard(rows: np.ndarray, rank: int, world_size: int) -> tuple[np.ndarray, np.ndarray]:
    """This rank's contiguous part of a global batch, and the places of its rows in it, both (batch / ranks,).

    Raises: ValueError where the batch does not divide among the ranks.
    """
    if len(rows) % world_size:
        raise ValueError(f"a batch of {len(rows)} does not divide among {world_size} ranks; want a multiple of {world_size}")
    size = len(rows) // world_size
    positions = np.arange(rank * size, (rank + 1) * size)
    return rows[positions], positions


def validation_rows(num_rows: int, batch_size: int, rank: int, world_size: int) -> list[np.ndarray]:
    """This rank's batches of every world_size-th row: each row is on one rank once, nothing is padded or dropped.

    Args:
        num_rows: rows of the validation set.
        batch_size: largest batch of one rank. The last may be smaller, and ranks may have unequal numbers of batches.
    Raises: ValueError for a batch size below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; want at least 1")
    mine = np.arange(rank, num_rows, world_size)
    return [mine[start : start + batch_size] for start in range(0, len(mine), batch_size)]
