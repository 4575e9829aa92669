"""Print every benchmark's table, or some of them.

make bench
"""

import argparse
import datetime
import platform
import time
from collections.abc import Callable
from functools import partial

import torch

from benchmarks import (
    averaging,
    batches,
    checksums,
    convolution,
    encoders,
    extraction,
    generation,
    network,
    operations,
    rates,
    reading,
    saving,
)
from mmaudio.base.errors import Problems, nearest, run_entry_point
from mmaudio.base.machine import num_cores
from mmaudio.base.options import options_parser, parse_options
from mmaudio.distributed.devices import set_threads
from mmaudio.distributed.ranks import read_ranks

TABLES: dict[str, Callable[[], None]] = {
    "rates": rates.print_table,
    "convolution": convolution.print_table,
    "operations": operations.print_table,
    "network": network.print_table,
    "saving": lambda: saving.print_table(rates.bench_device()),
    "checksums": checksums.print_table,
    "averaging": lambda: averaging.print_table(rates.bench_device()),
    "encoders": lambda: encoders.print_table(rates.bench_device()),
    "generation": generation.print_table,
    "reading": reading.print_table,
    "batches": batches.print_table,
    "extraction": extraction.print_table,
}


def _parser() -> argparse.ArgumentParser:
    example = "python -m benchmarks --only rates network --models small_16k"
    parser = options_parser("python -m benchmarks", "Say what things cost on this machine.", example)
    parser.add_argument("--only", nargs="+", default=list(TABLES), metavar="NAME", help=f"some of {', '.join(TABLES)} (default: all)")
    parser.add_argument("--models", nargs="+", default=[], metavar="NAME", help="models of the table `network` (default: all it has)")
    return parser


def machine() -> str:
    """Date, device and version: what figures are worth nothing without."""
    threads = set_threads(read_ranks())
    gpu = f"{torch.cuda.get_device_name()}, " if torch.cuda.is_available() else ""
    return f"{datetime.date.today()}, {gpu}{platform.machine()}, {num_cores()} cores, {threads} threads, torch {torch.__version__}"


def main() -> None:
    problems = Problems()
    options = parse_options(_parser(), None, problems)
    for name in options.only:
        if name not in TABLES:
            problems.add(f"no table {name!r}{nearest(name, TABLES)}; known are {', '.join(TABLES)}")
    problems.check(lambda: network.check_models(options.models))
    problems.raise_any()
    print(f"{machine()}\n")
    started = time.perf_counter()
    tables = TABLES | {"network": partial(network.print_table, options.models)}
    for name in options.only:
        began = time.perf_counter()
        print(f"## {name}\n")
        tables[name]()
        torch.cuda.empty_cache()  # tables may measure in processes of their own, which want the memory; nothing without CUDA
        print(f"\n({name}: {time.perf_counter() - began:.0f} s)\n", flush=True)
    print(f"all: {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    run_entry_point(main)
