"""Batches the plain way, row by row through TensorDict's own mappings, to compare with; and batches to keep."""

import contextlib
import itertools
from dataclasses import fields, replace

import torch
from tensordict import TensorDict

from mmaudio.store.format import TEXT, TEXT_ROW, TEXT_TABLE, VIDEO_FEATURES

FIELDS = {"mean": "a_mean", "std": "a_std", "clip_features": "clip_features", "sync_features": "sync_features", TEXT: "text_features"}


def plain_rows(mixture, indices):
    """Field of a batch → its rows, taken one at a time; float32 where the mixture widens."""
    found = {name: [] for name in FIELDS}
    flat = [(source.store, row) for source in mixture.sources for _ in range(source.repeat) for row in range(source.store.num_rows)]
    for index in indices:
        store, row = flat[int(index)]
        columns = TensorDict.load_memmap(store.memmap_dir)
        for name in ("mean", "std", *(VIDEO_FEATURES if store.kind == "video" else ())):
            found[name].append(columns[name][row])
        found[TEXT].append(columns[TEXT][row] if TEXT in columns else columns[TEXT_TABLE][columns[TEXT_ROW][row]])
    return {FIELDS[name]: torch.stack(rows).to(mixture.dtypes[name]) for name, rows in found.items() if rows}


def assert_plain(batch, mixture, indices):
    """The batch holds exactly the rows of the plain way, and features of video for those that have it alone."""
    wanted = plain_rows(mixture, indices)
    for name in FIELDS.values():
        value = getattr(batch, name)
        if name in wanted:
            assert value.dtype == wanted[name].dtype, name
            assert torch.equal(value.cpu(), wanted[name]), name
        else:
            assert len(value) == 0, name
    assert len(batch.clip_features) == len(batch.sync_features) == int(batch.video_exist.sum())


def kept(batch):
    """A batch that outlives the buffers it is a view of."""
    return replace(
        batch, **{each.name: value.clone() for each in fields(batch) if isinstance(value := getattr(batch, each.name), torch.Tensor)}
    )


def take(batches, count):
    """The first batches, to keep; the iterator is closed."""
    with contextlib.closing(batches):
        return [kept(batch) for batch in itertools.islice(batches, count)]
