"""What batches cost: rows a second beside a plain DataLoader over the same rows, and beside a plain copy of as many bytes."""

import ctypes
import gc
import mmap
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median

import numpy as np
import torch

from benchmarks.plain_loader import plain_batches
from mmaudio.base.specs import AudioSpec
from mmaudio.batches import Mixture, Placement, Source, training_batches, training_rows
from mmaudio.batches.gather import BatchReader, host_buffer
from mmaudio.store import Block, Store, table_path, write_store
from mmaudio.store.format import TEXT_SHAPE, columns

SPEC = AudioSpec("16k")
BATCH, NUM_CAPTIONS = 64, 309  # captions: of the VGGSound tables
WARM_ROWS, WARM_BATCHES, SKIPPED_BATCHES = 1024, 20, 5
COLD_ROWS, COLD_BATCHES = 4096, 3  # few of many, as in a store that is larger than memory
ROUNDS, COLD_ROUNDS = 5, 3
SEED = 0
COPIED_BYTES = 1 << 30  # read by the plain copy, so that no cache holds it
CAPTIONS_GB = 1.0
HEADER = """
| pages | way | rows/s | CPU ms a row | rate against the plain loader's best | against its 2 workers | against a copy |
|---|---|---|---|---|---|---|"""
Way = Callable[[int], Iterator[object]]  # from a number of batches to these


def _write(folder: Path, layout: str, num_rows: int) -> Store:
    """A store of made-up rows of 8 s videos, the same in any layout."""
    draw, name = np.random.default_rng(0), f"{layout}-{num_rows}"
    index = [(f"row{row}", f"caption {row % NUM_CAPTIONS}") for row in range(num_rows)]
    texts = {caption: torch.from_numpy(draw.standard_normal(TEXT_SHAPE, np.float32)) for _, caption in index[:NUM_CAPTIONS]}
    drawn = {column: draw.standard_normal((BATCH, *shape), np.float32) for column, shape in columns("video", SPEC).items()}

    def blocks() -> Iterator[Block]:
        for start in range(0, num_rows, BATCH):
            ids, captions = map(list, zip(*index[start : start + BATCH], strict=True))
            values = {column: torch.from_numpy(value + np.float32(start)) for column, value in drawn.items()}
            yield Block(ids, captions, values, {caption: texts[caption] for caption in captions})

    null_text = torch.zeros(TEXT_SHAPE)
    write_store(folder, name, kind="video", layout=layout, spec=SPEC, backend="lite", index=index, blocks=blocks(), null_text=null_text)
    return Store.open(table_path(folder / name), folder / name)


def _plain(store: Store, num_workers: int) -> Way:
    def way(count: int) -> Iterator[object]:
        order = np.concatenate([training_rows(store.num_rows, BATCH, SEED, step) for step in range(count)]).tolist()
        return plain_batches(store.memmap_dir, store.ids, order, BATCH, num_workers)

    return way


def _ours(mixture: Mixture, num_threads: int, placement: Placement | None = None) -> Way:
    def way(count: int) -> Iterator[object]:
        how = {"seed": SEED, "start_step": 0, "batch_size": BATCH}
        with closing(training_batches(mixture, **how, placement=placement, num_threads=num_threads)) as batches:  # type: ignore[arg-type]
            yield from islice(batches, count)

    return way


def _host_part(placement: Placement, num_threads: int) -> Way:
    """What the host of a GPU does: rows into its memory; captions that the GPU keeps are numbers."""
    mixture = placement.mixture

    def way(count: int) -> Iterator[object]:
        with ThreadPoolExecutor(num_threads) as pool:
            gatherer = BatchReader(placement, pool, joined=False)
            slabs = [host_buffer(gatherer.room_for(BATCH)) for _ in range(2)]
            for step in range(count):
                yield gatherer.gather(mixture.select(training_rows(len(mixture), BATCH, SEED, step)), slabs[step % 2])

    return way


def _copy(batch_bytes: int) -> Way:
    source = np.ones(COPIED_BYTES, dtype=np.uint8)
    targets = [host_buffer(batch_bytes).numpy() for _ in range(2)]

    def way(count: int) -> Iterator[object]:
        for number in range(count):
            start = number * batch_bytes % (len(source) - batch_bytes)
            np.copyto(targets[number % 2], source[start : start + batch_bytes])
            yield number

    return way


@dataclass(frozen=True)
class Cost:
    """Rows a second, and CPU milliseconds a row of this process and its workers."""

    rate: float
    cpu_ms: float


def _cpu_s(who: int) -> float:
    spent = resource.getrusage(who)
    return spent.ru_utime + spent.ru_stime


def _cost(way: Way, count: int, num_skipped: int) -> Cost:
    """Of these batches; the first few may be left out, in which workers start and buffers are touched for the first time."""
    ended_s, batches = _cpu_s(resource.RUSAGE_CHILDREN), way(count)
    for _ in range(num_skipped):
        next(batches)
    cpu_s, began_s = _cpu_s(resource.RUSAGE_SELF), time.perf_counter()
    for _ in batches:
        pass
    spent_s, num_rows = time.perf_counter() - began_s, (count - num_skipped) * BATCH
    cpu_s = _cpu_s(resource.RUSAGE_SELF) - cpu_s
    del batches
    workers_s = _cpu_s(resource.RUSAGE_CHILDREN) - ended_s
    return Cost(num_rows / spent_s, 1e3 * (cpu_s / num_rows + workers_s / (count * BATCH)))


def _evict(store: Store) -> float:
    """Have the system forget a store; the share of its pages that it keeps all the same."""
    gc.collect()  # mapped pages stay
    num_pages, num_kept = 0, 0
    for path in store.memmap_dir.glob("*.memmap"):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            mapped = np.frombuffer(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ), dtype=np.uint8)
            kept = np.zeros(-(-len(mapped) // mmap.PAGESIZE), dtype=np.uint8)
            ctypes.CDLL(None).mincore(ctypes.c_void_p(mapped.ctypes.data), ctypes.c_size_t(len(mapped)), ctypes.c_void_p(kept.ctypes.data))
            num_pages, num_kept = num_pages + len(kept), num_kept + int((kept & 1).sum())
    return num_kept / num_pages


def _print_costs(pages: str, ways: Mapping[str, Way], count: int, rounds: int, before: Callable[[], None] | None = None) -> None:
    """Medians over rounds in which each way takes its turn; `before` each, pages may be dropped, and then all counts."""
    found: dict[str, list[Cost]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            if before is not None:
                before()
            found[name].append(_cost(way, count, 0 if before else SKIPPED_BATCHES))
    costs = {name: Cost(median(one.rate for one in all_), median(one.cpu_ms for one in all_)) for name, all_ in found.items()}
    alone, workers = (costs[f"plain, {number} workers"].rate for number in (0, 2))
    for name, cost in costs.items():
        copy = costs.get(f"{name.split(',')[0]}, copy")
        ratios = f"{cost.rate / max(alone, workers):.2f} | {cost.rate / workers:.2f} | {f'{cost.rate / copy.rate:.2f}' if copy else ''}"
        print(f"| {pages} | {name} | {cost.rate:,.0f} | {cost.cpu_ms:.3f} | {ratios} |", flush=True)


def _same_values(mixture: Mixture) -> bool:
    """Whether a batch of ours holds the numbers of the plain loader's, bit for bit."""
    store = mixture.sources[0].store
    plain, ours = next(_plain(store, 0)(1)), next(_ours(mixture, 2)(1))
    names = ("a_mean", "a_std", "clip_features", "sync_features", "text_features")
    return all(torch.equal(plain[name], getattr(ours, name)) for name in names)  # type: ignore[index]


def _row_bytes(mixture: Mixture) -> int:
    return sum(int(np.prod(shape)) * mixture.dtypes[name].itemsize for name, shape in mixture.row_shapes.items())


def _print_warm(stores: Mapping[str, Store]) -> None:
    """Pages in memory. `plain` reads the published layout, the one it knows; `plain of compact` the same rows in compact."""
    ways = {f"plain, {workers} workers": _plain(stores["published"], workers) for workers in (0, 2)}
    ways |= {f"plain of compact, {workers} workers": _plain(stores["compact"], workers) for workers in (0, 2)}
    mixtures = {layout: Mixture([Source(layout, "video", store)], SPEC) for layout, store in stores.items()}
    for layout, mixture in mixtures.items():
        print(
            f"{layout}: {_row_bytes(mixture):,} bytes a row of a batch; values as the plain loader's, bit for bit: {_same_values(mixture)}"
        )
        ways |= {f"{layout}, {threads} threads": _ours(mixture, threads) for threads in (1, 2)}
        ways[f"{layout}, copy"] = _copy(_row_bytes(mixture) * BATCH)
    kept = Placement.of(mixtures["compact"], "cpu", caption_table_gb=CAPTIONS_GB)
    ways["compact, captions kept, 2 threads"] = _ours(kept.mixture, 2, kept)
    ways["compact, captions kept by a GPU, 2 threads"] = _host_part(kept, 2)
    print(HEADER)
    _print_costs("warm", ways, WARM_BATCHES, ROUNDS)


def _print_cold(stores: Mapping[str, Store]) -> None:
    """Pages dropped before every run."""
    kept = [0.0]
    ways = {f"plain, {workers} workers": _plain(stores["published"], workers) for workers in (0, 2)}
    for layout, store in stores.items():
        mixture = Mixture([Source(layout, "video", store)], SPEC)
        ways |= {f"{layout}, {threads} threads": _ours(mixture, threads) for threads in (2, 8)}
    _print_costs("cold", ways, COLD_BATCHES, COLD_ROUNDS, lambda: kept.append(max(map(_evict, stores.values()))))
    print(f"\n(cold: at most {100 * max(kept):.0f} % of the pages were still in memory)")


def print_table() -> None:
    """Rows a second of 8 s videos at 16 kHz, warm and cold, in both layouts."""
    for num_rows, print_rows in ((WARM_ROWS, _print_warm), (COLD_ROWS, _print_cold)):
        with tempfile.TemporaryDirectory(dir=".") as scratch:
            print_rows({layout: _write(Path(scratch).resolve(), layout, num_rows) for layout in ("published", "compact")})
