"""Batches read ahead, on the device in time."""

import queue
import threading
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext
from dataclasses import dataclass
from itertools import count
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from mmaudio.batches.batch import Batch, Selection
from mmaudio.batches.gather import BatchReader, host_buffer
from mmaudio.batches.mixture import Mixture
from mmaudio.batches.order import num_steps_per_epoch, shard, training_rows, validation_rows
from mmaudio.batches.placement import Placement

# ---- Batches on the training device: on a CPU the host's own memory, on a GPU copies that a stream of their own makes ahead

_PINNED_SLABS = 2  # one that is read into while the other is copied


@dataclass(frozen=True)
class BatchOnDevice:
    """A batch that is on its way, or there. `is_there`: None on a CPU."""

    batch: Batch
    is_there: torch.cuda.Event | None = None

    def receive(self) -> Batch:
        """The batch, for the current stream of the caller's thread, which waits for it on the device; the thread does not."""
        if self.is_there is not None:
            stream = torch.cuda.current_stream(self.batch.a_mean.device)
            stream.wait_event(self.is_there)
            for tensor in features_of(self.batch):
                tensor.record_stream(stream)  # or its memory would be given to a later batch while this stream still reads it
        return self.batch


def features_of(batch: Batch) -> tuple[Tensor, ...]:
    """The tensors of a batch that are on its device."""
    return (batch.a_mean, batch.a_std, batch.clip_features, batch.sync_features, batch.text_table, batch.text_rows)


def batches_on_device(gatherer: BatchReader, selections: Iterable[Selection], batch_size: int, ahead: int) -> Iterator[BatchOnDevice]:
    """Read batches of at most `batch_size` rows in turn.

    Args:
        ahead: batches that may be waiting to be used; on a CPU a batch's memory is used again for the one `ahead` + 1 later.
    """
    room, device = gatherer.room_for(batch_size), gatherer.placement.device
    return _on_gpu(gatherer, selections, room, device) if device.type == "cuda" else _on_cpu(gatherer, selections, room, ahead + 1)


def _on_cpu(gatherer: BatchReader, selections: Iterable[Selection], room: int, num_slabs: int) -> Iterator[BatchOnDevice]:
    slabs = [host_buffer(room) for _ in range(num_slabs)]
    for number, selection in enumerate(selections):
        slab = slabs[number % num_slabs]
        yield BatchOnDevice(gatherer.gather(selection, slab).batch(gatherer.placement, slab))


def _on_gpu(gatherer: BatchReader, selections: Iterable[Selection], room: int, device: torch.device) -> Iterator[BatchOnDevice]:
    torch.cuda.set_device(device)  # of this thread, which would make its stream and page-locked memory on the first GPU
    stream = torch.cuda.Stream(device)
    slabs = [host_buffer(room, pinned=True) for _ in range(_PINNED_SLABS)]
    copied = [torch.cuda.Event(blocking=True) for _ in slabs]
    for number, selection in enumerate(selections):
        slab, is_copied = slabs[number % _PINNED_SLABS], copied[number % _PINNED_SLABS]
        is_copied.synchronize()  # no wait before the first copy
        gathered, is_there = gatherer.gather(selection, slab), torch.cuda.Event()
        with torch.cuda.stream(stream):
            block = slab[: gathered.num_bytes].to(device, non_blocking=True)
            is_copied.record(stream)
            batch = gathered.batch(gatherer.placement, block)
            is_there.record(stream)
        yield BatchOnDevice(batch, is_there)


# ---- Batches read ahead

T = TypeVar("T")
AHEAD = 2
DEFAULT_THREADS = 2


class _End:
    """Last entry of the queue: what ended the producer, if anything did."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


def prefetch(items: Iterator[T], ahead: int) -> Generator[T, None, None]:
    """Pass on what an iterator gives, which a thread asks for before it is needed, keeping at most `ahead` results waiting.

    While a result is in use, the thread makes no more than the `ahead` next ones. Whatever the iterator raises is raised here,
    after the results before it. The thread starts with the first result asked for; when this ends, is closed, or is
    collected, the thread closes `items` (if it can be closed) and is gone.
    """
    results: queue.SimpleQueue[T | _End] = queue.SimpleQueue()
    room = threading.Semaphore(max(1, ahead))
    stop = threading.Event()

    def produce() -> None:
        end = _End()
        try:
            while room.acquire() and not stop.is_set():
                results.put(next(items))
        except StopIteration:
            pass
        except BaseException as error:
            end = _End(error)
        finally:
            if isinstance(items, Generator):
                items.close()
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
    mixture: Mixture,
    *,
    seed: int,
    start_step: int,
    batch_size: int,
    rank: int = 0,
    world_size: int = 1,
    device: torch.device | str | None = None,
    placement: Placement | None = None,
    num_threads: int | None = None,
    ahead: int = AHEAD,
) -> Generator[Batch, None, None]:
    """This rank's batches from step `start_step` on, without end; a function of the arguments, so a resumed run continues.

    A batch may be a view of buffers that are used again: it is valid until the next one is asked for. Close the iterator
    when done with it (`contextlib.closing`). Every rank reads its own rows; nothing is collective.

    Args:
        mixture: the data.
        seed: of the run.
        start_step: steps done so far.
        batch_size: rows of a step, all ranks together.
        device: where the batches are wanted; by default where `placement` is, or the CPU.
        placement: of this mixture on this device; None: rows come from the files.
        num_threads: threads that read rows; None: two.
        ahead: batches kept waiting, which costs their memory.
    Raises: ValueError, at once, for a batch larger than the data or one that does not divide among the ranks, and for a
        placement of other data. OSError, from the iterator, for a store that cannot be read.
    """
    num_steps_per_epoch(len(mixture), batch_size)
    shard(np.arange(batch_size), rank, world_size)

    def selections() -> Iterator[Selection]:
        for step in count(start_step):
            yield mixture.select(*shard(training_rows(len(mixture), batch_size, seed, step), rank, world_size))

    return _received(selections(), _placed(mixture, device, placement), batch_size // world_size, num_threads, ahead)


def validation_batches(
    mixture: Mixture,
    *,
    batch_size: int,
    rank: int = 0,
    world_size: int = 1,
    device: torch.device | str | None = None,
    placement: Placement | None = None,
    num_threads: int | None = None,
    ahead: int = AHEAD,
    max_rows: int | None = None,
) -> Generator[Batch, None, None]:
    """This rank's share of every row, once, in order: rows rank, rank + world_size, …; `positions` are row numbers.

    The last batch may be smaller and ranks may have unequal numbers of batches, so no collective may stand in the loop.
    Batches are valid, and the iterator is closed, as in `training_batches`.

    Args:
        mixture: the data.
        batch_size: largest batch of one rank.
        device, placement, num_threads, ahead: as in `training_batches`.
        max_rows: take the first so many alone, all ranks together.
    Raises: ValueError, at once, for a batch size below 1 or a placement of other data.
    """
    num_rows = len(mixture) if max_rows is None else min(max_rows, len(mixture))
    parts = validation_rows(num_rows, batch_size, rank, world_size)
    placed = _placed(mixture, device, placement)
    largest = max(map(len, parts), default=0)
    return _received((mixture.select(rows, rows) for rows in parts), placed, largest, num_threads, ahead)


def _placed(mixture: Mixture, device: torch.device | str | None, placement: Placement | None) -> Placement:
    if placement is None:
        return Placement(mixture, torch.device(device or "cpu"), {})
    if placement.mixture is not mixture:
        raise ValueError("the placement is of another mixture")
    if device is not None and torch.device(device) != placement.device:
        raise ValueError(f"the placement is on device {placement.device}; want {device}")
    return placement


def _received(
    selections: Iterable[Selection], placement: Placement, batch_size: int, num_threads: int | None, ahead: int
) -> Generator[Batch, None, None]:
    ahead = max(1, ahead)
    with closing(prefetch(_read(selections, placement, batch_size, num_threads, ahead), ahead)) as results:
        for arrival in results:
            yield arrival.receive()


def _read(
    selections: Iterable[Selection], placement: Placement, batch_size: int, num_threads: int | None, ahead: int
) -> Generator[BatchOnDevice, None, None]:
    """Runs in the thread that reads ahead, and has helpers where more than one is wanted."""
    threads = DEFAULT_THREADS if num_threads is None else num_threads
    with ThreadPoolExecutor(threads, "read-rows") if threads > 1 else nullcontext() as pool:
        yield from batches_on_device(BatchReader(placement, pool, joined=placement.device.type != "cuda"), selections, batch_size, ahead)
