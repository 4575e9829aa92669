"""What a GPU gets: the numbers that stand in the stores, put together from what it keeps and what it is sent, in time."""

import contextlib
import itertools
import threading

import numpy as np
import pytest
import torch

from mmaudio.batches import Mixture, Placement, Source, training_batches, training_rows, validation_batches
from mmaudio.batches.gather import BatchReader, host_buffer
from tests.batches.plain import assert_plain, kept, take
from tests.store.examples import SPEC, features, index_of, make_store

CAPTION_GB = 77 * 1024 * 2 / 1e9  # of one caption in bfloat16


@pytest.fixture
def mixture(tmp_path):
    seen = make_store(tmp_path, "v", "video", index_of(7, "v"), features("video", 7, seed=1))
    heard = make_store(tmp_path, "a", "audio", index_of(6, "a"), features("audio", 6, seed=2))
    return Mixture([Source("v", "video", seen, 2), Source("a", "audio", heard)], SPEC)


def placements(mixture, device):
    """Nothing kept; the captions of one of two stores; all captions; everything."""
    return [Placement.of(mixture, device, caption_table_gb=number * CAPTION_GB) for number in (0, 3, 6)] + [
        Placement.of(mixture, device, "device")
    ]


@pytest.mark.parametrize("case", range(4))
@pytest.mark.parametrize("indices", [[3, 17, 0, 5, 15], [14, 19, 15], [1, 8]])
def test_what_is_left_to_the_device_is_put_together_there(mixture, case, indices):
    """The way of a GPU, on the CPU: rows of tables stay out of the block, which holds their numbers instead."""
    placement, indices = placements(mixture, "cpu")[case], np.array(indices)
    gatherer = BatchReader(placement, None, joined=False)
    slab = host_buffer(gatherer.room_for(len(indices)))
    gathered = gatherer.gather(mixture.select(indices), slab)
    assert_plain(gathered.batch(placement, slab[: gathered.num_bytes].clone()), mixture, indices)
    if case == 3:
        assert gathered.num_bytes < 10 * 4096, "numbers alone are sent"


@pytest.mark.parametrize("joined", [False, True])
@pytest.mark.parametrize("case", range(4))
def test_a_block_has_room_for_any_batch(mixture, case, joined):
    gatherer = BatchReader(placements(mixture, "cpu")[case], None, joined=joined)
    room = gatherer.room_for(6)
    for indices in ([0, 1, 2, 3, 4, 5], [14, 15, 16, 17, 18, 19], [0, 15, 1, 16, 2, 17]):
        assert gatherer.gather(mixture.select(np.array(indices)), host_buffer(room)).num_bytes <= room


@pytest.mark.gpu
@pytest.mark.parametrize("case", range(4))
def test_values_on_a_gpu(mixture, case):
    placement = placements(mixture, "cuda:0")[case]
    with contextlib.closing(training_batches(mixture, seed=3, start_step=0, batch_size=8, placement=placement)) as batches:
        for step, batch in enumerate(itertools.islice(batches, 12)):
            assert batch.sync_features.is_cuda and not batch.video_exist.is_cuda and not batch.positions.is_cuda
            assert_plain(batch, mixture, training_rows(len(mixture), 8, 3, step))
    with contextlib.closing(validation_batches(mixture, batch_size=6, placement=placement)) as batches:
        for batch in batches:
            assert_plain(batch, mixture, batch.positions)


@pytest.mark.gpu
def test_a_busy_gpu_reads_each_batch_before_its_memory_is_given_to_another(mixture):
    """The host runs far ahead of a GPU that is kept busy; what the GPU then reads must still be the batch."""
    placement, busy = Placement.of(mixture, "cuda:0"), torch.randn(4096, 4096, device="cuda")
    copies = []
    with contextlib.closing(training_batches(mixture, seed=3, start_step=0, batch_size=8, placement=placement, ahead=1)) as batches:
        for batch in itertools.islice(batches, 20):
            for _ in range(20):
                busy = busy @ busy * 1e-3
            copies.append(kept(batch))  # queued behind the products
            del batch
    torch.cuda.synchronize()
    for step, copy in enumerate(copies):
        assert_plain(copy, mixture, training_rows(len(mixture), 8, 3, step))


@pytest.mark.gpu
def test_threads_end_and_the_host_does_not_wait_for_the_gpu(mixture):
    num_before = threading.active_count()
    batches = training_batches(mixture, seed=0, start_step=0, batch_size=4, device="cuda:0", num_threads=3)
    torch.cuda.set_sync_debug_mode("error")
    try:
        next(batches)
        next(batches)
    finally:
        torch.cuda.set_sync_debug_mode("default")
        batches.close()
    assert threading.active_count() == num_before


@pytest.mark.gpu
def test_a_gpu_and_a_cpu_get_the_same(mixture):
    on_cpu, on_gpu = (take(training_batches(mixture, seed=1, start_step=2, batch_size=6, device=name), 3) for name in ("cpu", "cuda:0"))
    for one, other in zip(on_cpu, on_gpu, strict=True):
        assert torch.equal(one.sync_features, other.sync_features.cpu()) and one.ids == other.ids
