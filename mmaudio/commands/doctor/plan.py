"""A training run before it is: the device it is meant for, what it takes of it, and where that is not enough."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from mmaudio.base.errors import Problems
from mmaudio.base.ranks import Ranks, num_cores, pick_device, set_threads
from mmaudio.base.settings import TrainSettings
from mmaudio.commands.doctor.estimate import (
    MemoryNeeds,
    StoreNeeds,
    disk_needs,
    memory_needs,
    micro_batch_that_fits,
    rows_per_process,
    shared_out,
    store_needs,
)
from mmaudio.commands.doctor.gpus import Gpu, find_gpu
from mmaudio.commands.doctor.machine import device_bytes, free_disk
from mmaudio.commands.doctor.sheet import quantity
from mmaudio.network import find_variant
from mmaudio.trainer.costs import flops_per_row, matmul_rate
from mmaudio.trainer.precision import compute_dtype, set_backend_flags, uses_amp, uses_compile
from mmaudio.trainer.sources import open_sources

SHARE = 0.4  # of the rate of a matrix product that training reaches: 0.37 to 0.5 where it was measured (docs/performance.md)


@dataclass(frozen=True)
class TrainPlan:
    """A run on devices that are here, or on GPUs by name (`gpu`). `rate` is FLOP/s of all its processes' matrix products."""

    settings: TrainSettings
    num_processes: int
    kind: str  # cuda or cpu
    gpu: Gpu | None
    amp: bool
    capacity: float  # bytes a process can have
    rate: float
    stores: StoreNeeds | None  # None where there is no training store yet
    memory: MemoryNeeds

    @classmethod
    def of(cls, settings: TrainSettings, num_processes: int, planned: Gpu | None, stand_in: str) -> "TrainPlan":
        """Measures the device for a moment. Raises: UserError for a model that is not known."""
        find_variant(settings.model)
        device = Problems().check(lambda: pick_device(settings.device, Ranks())) if planned is None else None
        gpu = planned or (find_gpu(stand_in) if device is None else None)
        kind = device.type if device is not None else "cuda"
        amp = uses_amp(settings, device) if device is not None else settings.amp is not False
        names = [name for name in settings.data.train if name in settings.data.sources and settings.data.sources[name].is_there()]
        sources = open_sources(settings, names, Problems(), repeats=True)
        stores = store_needs(sources, settings.caption_table_gb) if sources else None
        memory = memory_needs(settings, num_processes, stores, kind, amp=amp)
        if gpu is not None:
            return cls(settings, num_processes, kind, gpu, amp, gpu.memory, num_processes * gpu.rate(amp=amp), stores, memory)
        assert device is not None
        set_threads(Ranks())
        set_backend_flags(settings)
        shared_by = 1 if kind == "cuda" else num_processes  # processes on the CPU share its memory and cores
        rate = matmul_rate(device, compute_dtype(amp=amp)) * num_processes / shared_by
        return cls(settings, num_processes, kind, None, amp, device_bytes(device) / shared_by, rate, stores, memory)

    @property
    def compiles(self) -> bool:
        return uses_compile(self.settings, torch.device(self.kind))

    @property
    def device_words(self) -> str:
        if self.gpu is not None:
            return f"{self.num_processes} x {self.gpu.name} (by its published figures)"
        return f"{self.num_processes} x {torch.cuda.get_device_name()}" if self.kind == "cuda" else f"{num_cores()} cores"

    def lines(self) -> Iterator[tuple[str, str]]:
        """What the run takes, by name."""
        settings, precision = self.settings, "bf16" if self.amp else "float32"
        yield "model", f"{settings.model}, {settings.duration_s:g} s, in {precision}{', compiled' if self.compiles else ''}"
        yield from self._memory_lines()
        yield from self._disk_lines()
        yield from self._speed_lines()

    def _memory_lines(self) -> Iterator[tuple[str, str]]:
        memory, state = self.memory, self.memory.state
        yield "parameters", quantity(state.parameters, "B")
        yield "gradients", quantity(state.gradients, "B")
        yield "optimizer", quantity(state.moments, "B")
        yield "averages", quantity(state.averages, "B") + (" on the first process" if self.settings.parallel == "ddp" else "")
        share = rows_per_process(self.settings, self.num_processes)
        rows = f"{memory.rows_at_once} rows at once of {share} a step"
        yield "activations", f"{quantity(memory.activations.of(memory.rows_at_once), 'B')} for {rows}"
        if self.stores is not None:
            yield "stores" if self.settings.placement == "device" else "captions", f"{quantity(memory.stores, 'B')} on the device"
        yield (
            "memory in all",
            f"{quantity(memory.total, 'B')} a process, of {quantity(self.capacity, 'B')} (to about a quarter; compiled takes less)",
        )

    def _disk_lines(self) -> Iterator[tuple[str, str]]:
        disk = disk_needs(self.settings)
        yield "checkpoints", f"{disk.num_checkpoints} x {quantity(disk.checkpoint, 'B')}, one of them only while it is written"
        yield "snapshots", f"{disk.num_snapshots} x {quantity(disk.snapshot, 'B')}, kept within {self.settings.ema.max_snapshots_gb:g} GB"
        yield "disk in all", quantity(disk.total, "B")

    def _speed_lines(self) -> Iterator[tuple[str, str]]:
        settings = self.settings
        per_row = flops_per_row(settings.model, settings.duration_s, freeze=settings.freeze)
        rows_s = SHARE * self.rate / per_row
        rate = f"{quantity(self.rate, 'FLOP/s')} of matrix products{' as published' if self.gpu else ', measured'}"
        yield "operations", f"{quantity(per_row * settings.batch_size, 'FLOP')} a step, {quantity(per_row, 'FLOP')} a row"
        yield "speed", f"{rows_s:.3g} samples/s at {SHARE:.0%} of {rate}"
        hours = settings.num_iterations * settings.batch_size / rows_s / 3600
        yield "duration", f"{hours:,.1f} hours for {settings.num_iterations} iterations"
        yield "data", self._data_words(rows_s)

    def _data_words(self, rows_s: float) -> str:
        if self.stores is None:
            return "not known, for none of the training stores is there"
        total, per_row = quantity(self.stores.total, "B"), quantity(self.stores.bytes_per_row, "B")
        flow = f"{quantity(rows_s * self.stores.bytes_per_row, 'B/s')} ({per_row} a row)"
        return {
            "memmap": f"{flow} from the disk, or from memory where its page cache holds the {total} of the stores",
            "ram": f"{flow} from memory; {total} are read once at the start, and the page cache has to hold them",
            "device": f"none while training; {total} are read once at the start",
        }[self.settings.placement]

    def shortages(self, run_dir: Path) -> Iterator[str]:
        """A sentence for what does not fit, with what would."""
        if self.memory.total > self.capacity:
            wanted, there = quantity(self.memory.total, "B"), quantity(self.capacity, "B")
            yield f"memory: the run takes an estimated {wanted} a process and there are {there}; {self._way_out()}"
        wanted_disk, free = disk_needs(self.settings).total, free_disk(run_dir)
        if wanted_disk > free:
            yield (
                f"disk: the run leaves up to {quantity(wanted_disk, 'B')} and {quantity(free, 'B')} are free at {run_dir};"
                " make room, or lower keep_checkpoints or ema.max_snapshots_gb, or give hydra.run.dir=DIR on another disk"
            )

    def _way_out(self) -> str:
        share, ways = rows_per_process(self.settings, self.num_processes), {"": self.memory}
        if self.settings.parallel == "ddp" and self.num_processes > 1:
            ways["parallel=fsdp"] = shared_out(self.memory, self.settings, self.num_processes)
        for words, needs in ways.items():
            fitting = micro_batch_that_fits(share, needs.rows_that_fit(self.capacity))
            if fitting is not None:
                micro = f"micro_batch={fitting}" if fitting < needs.rows_at_once else ""
                return " ".join(word for word in ("give", words, micro) if word)
        placed = " placement=memmap," if self.settings.placement == "device" else ""
        return f"not even one row fits: take{placed} a smaller model, a device with more memory, or more processes with parallel=fsdp"
