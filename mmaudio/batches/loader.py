"""Reads batches ahead of the loop that uses them, in one thread that ends with the iterator."""

import queue
import threading
from collections.abc import Callable, Iterator
from itertools import count
from typing import TypeVar

import numpy as np

from mmaudio.batches.mixture import Batch, Mixture
from mmaudio.batches.order import num_steps_per_epoch, shard, training_rows, validation_rows

T = TypeVar("T")


class _End:
    """Last entry of the queue: what ended the producer, if anything did."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


def read_ahead(items: Iterator[Callable[[], T]], ahead: int) -> Iterator[T]:
    """Call the functions of `items` in a thread, in order, keeping at most `ahead` results waiting; yield the results.

    Whatever is raised there is raised here, after the results before it. The thread starts with the first result asked
    for and is gone when the iterator ends, is closed, or is collected.
    """
    results: queue.SimpleQueue[T | _End] = queue.SimpleQueue()
    room = threading.Semaphore(max(1, ahead))
    stop = threading.Event()

    def produce() -> None:
        end = _End()
        try:
            for make in items:
                room.acquire()
                if stop.is_set():
                    return
                results.put(make())
        except BaseException as error:
            end = _End(error)
        finally:
            results.put(end)

    thread = threading.Thread(target=produce, name="read-ahead", daemon=True)
    thread.start()
    try:
        while not isinstance(result := results.get(), _End):
            room.release()
            yield result
        if result.error is not None:
            raise result.error
    finally:
        stop.set()
        room.release()
        thread.join()


def training_batches(
    mixture: Mixture, *, seed: int, start_step: int, batch_size: int, rank: int = 0, world_size: int = 1, ahead: int = 2
) -> Iterator[Batch]:
    """This rank's batches from step `start_step` on, without end; a function of the arguments, so a resumed run continues.

    Close the iterator when done with it (`contextlib.closing`). Every rank reads its own rows; nothing is collective.

    Args:
        mixture: the data.
        seed: of the run.
        start_step: steps done so far.
        batch_size: rows of a step, all ranks together.
        ahead: batches kept waiting, which costs their memory.
    Raises: ValueError, at once, for a batch larger than the data or one that does not divide among the ranks.
    """
    num_steps_per_epoch(len(mixture), batch_size)
    shard(np.arange(batch_size), rank, world_size)

    def reader(step: int) -> Callable[[], Batch]:
        rows = training_rows(len(mixture), batch_size, seed, step)
        return lambda: mixture.gather(*shard(rows, rank, world_size))

    return read_ahead((reader(step) for step in count(start_step)), ahead)


def validation_batches(mixture: Mixture, *, batch_size: int, rank: int = 0, world_size: int = 1, ahead: int = 2) -> Iterator[Batch]:
    """This rank's share of every row, once, in order: rows rank, rank + world_size, …; `positions` are row numbers.

    The last batch may be smaller and ranks may have unequal numbers of batches, so no collective may stand in the loop.

    Args:
        mixture: the data.
        batch_size: largest batch of one rank.
    Raises: ValueError, at once, for a batch size below 1.
    """
    parts = validation_rows(len(mixture), batch_size, rank, world_size)

    def reader(rows: np.ndarray) -> Callable[[], Batch]:
        return lambda: mixture.gather(rows, rows)

    return read_ahead((reader(rows) for rows in parts), ahead)
