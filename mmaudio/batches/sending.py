"""Batches on the training device: on a CPU the host's own memory, on a GPU copies that a stream of their own makes ahead.

Both are generators for the thread that reads ahead: a batch is read when it is asked for.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mmaudio.batches.batch import Batch, Selection
from mmaudio.batches.gather import Gatherer
from mmaudio.batches.slabs import new_slab

_PINNED_SLABS = 2  # one that is read into while the other is copied


@dataclass(frozen=True)
class Arrival:
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


def arrivals(gatherer: Gatherer, selections: Iterable[Selection], batch_size: int, ahead: int) -> Iterator[Arrival]:
    """Read batches of at most `batch_size` rows in turn.

    Args:
        ahead: batches that may be waiting to be used; on a CPU a batch's memory is used again for the one `ahead` + 1 later.
    """
    room, device = gatherer.room_for(batch_size), gatherer.placement.device
    return _on_gpu(gatherer, selections, room, device) if device.type == "cuda" else _on_cpu(gatherer, selections, room, ahead + 1)


def _on_cpu(gatherer: Gatherer, selections: Iterable[Selection], room: int, num_slabs: int) -> Iterator[Arrival]:
    slabs = [new_slab(room) for _ in range(num_slabs)]
    for number, selection in enumerate(selections):
        slab = slabs[number % num_slabs]
        yield Arrival(gatherer.gather(selection, slab).batch(gatherer.placement, slab))


def _on_gpu(gatherer: Gatherer, selections: Iterable[Selection], room: int, device: torch.device) -> Iterator[Arrival]:
    torch.cuda.set_device(device)  # of this thread, which would make its stream and page-locked memory on the first GPU
    stream = torch.cuda.Stream(device)
    slabs = [new_slab(room, pinned=True) for _ in range(_PINNED_SLABS)]
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
        yield Arrival(batch, is_there)
