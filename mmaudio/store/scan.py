"""One pass over all numbers of a store, block by block, in bounded memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from mmaudio.base.finite import finite_rows
from mmaudio.base.logs import progress
from mmaudio.store.captions import Clash, TextsOfCaptions
from mmaudio.store.reader import Store
from mmaudio.store.schema import NULL_TEXT, TEXT, TEXT_ROW
from mmaudio.store.statistics import Moments

BLOCK_BYTES = 1 << 25


@dataclass
class Scan:
    """What one pass over the columns finds."""

    not_finite: dict[str, list[int]] = field(default_factory=dict)  # column → places in it
    zeros: dict[str, list[int]] = field(default_factory=dict)  # column → places in it with a token that is zeros
    negative: list[int] = field(default_factory=list)  # rows whose std is below zero somewhere
    moments: Moments = field(default_factory=Moments)
    clashes: list[Clash] = field(default_factory=list)  # published layout: equal captions with unequal texts


def blocks_of(store: Store, columns: Sequence[str]) -> list[tuple[str, int, int]]:
    """(column, start, stop) of blocks that together are these columns, each of at most BLOCK_BYTES or one row."""
    blocks = []
    for name in columns:
        shape, dtype = store.column_shapes[name], store.column_dtypes[name]
        step = max(1, BLOCK_BYTES // (int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize))
        blocks += [(name, start, min(start + step, shape[0])) for start in range(0, shape[0], step)]
    return blocks


def scan_store(store: Store, *, with_texts: bool) -> Scan:
    """Read every number, showing progress; `with_texts` also holds equal captions to equal text features (published layout)."""
    scan = Scan()
    texts = TextsOfCaptions(store.captions, lambda row: store.read_block(TEXT, row, row + 1)[0])
    blocks = blocks_of(store, [name for name in store.column_shapes if name not in (TEXT_ROW, NULL_TEXT)])
    for name, start, values in progress(_read(store, blocks), len(blocks), "verify"):
        scan.not_finite.setdefault(name, []).extend((start + torch.nonzero(~finite_rows(values))[:, 0]).tolist())
        scan.zeros.setdefault(name, []).extend((start + torch.nonzero(zero_token_rows(values))[:, 0]).tolist())
        if name == "mean":
            scan.moments.add(values)
        elif name == "std":
            scan.negative += (start + torch.nonzero(values.flatten(1).amin(1) < 0)[:, 0]).tolist()
        elif name == TEXT and with_texts:
            found = (texts.clash(row, text) for row, text in enumerate(values, start))
            scan.clashes += [clash for clash in found if clash is not None]
    return scan


def zero_token_rows(values: Tensor) -> Tensor:
    """Which rows have a token that is zeros throughout, (rows,) bool, for (rows, tokens, width). Costs next to nothing where none has."""
    found = torch.zeros(len(values), dtype=torch.bool)
    rows, tokens = torch.nonzero(values[..., 0] == 0, as_tuple=True)
    found[rows[~values[rows, tokens].any(-1)]] = True
    return found


def _read(store: Store, blocks: Sequence[tuple[str, int, int]]) -> Iterator[tuple[str, int, Tensor]]:
    for name, start, stop in blocks:
        yield name, start, store.read_block(name, start, stop)
