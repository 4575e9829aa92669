"""Where rows come from changes no value: every placement, layout and caption budget against rows taken one by one."""

import contextlib
import itertools
import logging

import numpy as np
import pytest
import torch

from mmaudio.base.errors import UserError
from mmaudio.batches import Mixture, Placement, Source, training_batches, training_rows, validation_batches
from mmaudio.batches import placement as placement_module
from mmaudio.batches.placement import join_rows
from mmaudio.store.format import TEXT
from tests.batches.plain import assert_plain, take
from tests.store.examples import SPEC, features, index_of, make_store

CPU = torch.device("cpu")
CAPTION_GB = 77 * 1024 * 2 / 1e9  # of one caption in bfloat16


def mixture_of(folder, layouts=("compact", "compact")):
    seen = make_store(folder, "v", "video", index_of(7, "v"), features("video", 7, seed=1), layout=layouts[0])
    heard = make_store(folder, "a", "audio", index_of(6, "a"), features("audio", 6, seed=2), layout=layouts[1])
    return Mixture([Source("v", "video", seen, 2), Source("a", "audio", heard)], SPEC)


@pytest.mark.parametrize("layouts", [("compact", "compact"), ("published", "published"), ("compact", "published")])
@pytest.mark.parametrize("kind", ["memmap", "ram", "device"])
@pytest.mark.parametrize("num_threads", [1, 3])
def test_values_are_those_of_single_rows(tmp_path, layouts, kind, num_threads):
    mixture = mixture_of(tmp_path, layouts)
    placement = Placement.of(mixture, CPU, kind)
    batches = training_batches(mixture, seed=3, start_step=0, batch_size=8, placement=placement, num_threads=num_threads)
    with contextlib.closing(batches):
        for step, batch in enumerate(itertools.islice(batches, 5)):
            assert_plain(batch, mixture, training_rows(len(mixture), 8, 3, step))
    with contextlib.closing(validation_batches(mixture, batch_size=6, placement=placement)) as batches:
        for batch in batches:
            assert_plain(batch, mixture, batch.positions)


@pytest.mark.parametrize(("num_captions", "sources"), [(0, []), (2.5, []), (3, [0]), (5, [0]), (6, [0, 1]), (1000, [0, 1])])
def test_captions_stay_on_the_device_as_far_as_they_fit(tmp_path, caplog, num_captions, sources):
    mixture = mixture_of(tmp_path)  # three captions each
    with caplog.at_level(logging.INFO):
        placement = Placement.of(mixture, CPU, caption_table_gb=num_captions * CAPTION_GB)
    table = placement.tables.get(TEXT)
    assert (list(table.first) if table else []) == sources
    left_out = {"v", "a"} - {mixture.sources[number].name for number in sources}
    assert all(any(f"captions of store {name}" in line for line in caplog.messages) for name in left_out)
    with contextlib.closing(validation_batches(mixture, batch_size=9, placement=placement)) as batches:
        for batch in batches:
            assert_plain(batch, mixture, batch.positions)


def test_a_smaller_table_is_kept_where_a_larger_one_is_not(tmp_path):
    many = make_store(tmp_path, "many", "audio", [(f"m{row}", f"caption {row}") for row in range(5)])
    few = make_store(tmp_path, "few", "audio", index_of(4))
    mixture = Mixture([Source("many", "audio", many), Source("few", "audio", few)], SPEC)
    assert list(Placement.of(mixture, CPU, caption_table_gb=4 * CAPTION_GB).tables[TEXT].first) == [1]


def test_what_does_not_fit_the_device_is_refused(tmp_path, monkeypatch):
    mixture = mixture_of(tmp_path)
    monkeypatch.setattr(placement_module, "available_bytes", lambda device: 1000)
    with pytest.raises(UserError, match=r"placement=device.*GB.*placement=ram") as caught:
        Placement.of(mixture, CPU, "device")
    assert len(caught.value.sentences) == 1


def test_memory_that_stores_outgrow_is_told(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(placement_module, "available_bytes", lambda device: 1000)
    Placement.of(mixture_of(tmp_path), CPU, "ram")
    assert any("read from the disk again" in line for line in caplog.messages)


def test_placements_are_known_by_name(tmp_path):
    with pytest.raises(ValueError, match="'disk'; want memmap, ram or device"):
        Placement.of(mixture_of(tmp_path), CPU, "disk")


def test_a_placement_is_of_one_mixture_and_device(tmp_path):
    mixture = mixture_of(tmp_path)
    other = Mixture(mixture.sources, SPEC)
    with pytest.raises(ValueError, match="another mixture"):
        training_batches(mixture, seed=0, start_step=0, batch_size=2, placement=Placement.of(other, CPU))
    with pytest.raises(ValueError, match="device"):
        training_batches(mixture, seed=0, start_step=0, batch_size=2, device=torch.device("meta"), placement=Placement.of(mixture, CPU))


def test_the_device_is_asked_for_nothing_once_all_is_there(tmp_path, monkeypatch):
    mixture = mixture_of(tmp_path)
    placement = Placement.of(mixture, CPU, "device")
    for source in mixture.sources:
        monkeypatch.setattr(source.store, "copy_rows_", None)
    (batch,) = take(training_batches(mixture, seed=0, start_step=0, batch_size=20, placement=placement), 1)
    assert_plain(batch, mixture, training_rows(len(mixture), 20, 0, 0))


def test_tables_are_put_together_with_read_rows_in_batch_order(tmp_path):
    """What a GPU does with the rows it keeps and the rows it is sent; the CPU's own way is another."""
    values, sent = torch.randn(5, 2, 3), torch.randn(2, 2, 3)
    index, order = np.array([4, 0, 4]), np.array([3, 0, 1, 4, 2])
    whole = join_rows(values, torch.from_numpy(index), sent, torch.from_numpy(order))
    assert torch.equal(whole, torch.stack([sent[0], values[4], values[0], sent[1], values[4]]))
    assert torch.equal(join_rows(values, torch.from_numpy(index), None, None), values[[4, 0, 4]])
