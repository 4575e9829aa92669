"""What a training run will take."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import torch

from mmaudio.base.errors import Problems
from mmaudio.base.machine import num_cores
from mmaudio.batches import Source
from mmaudio.batches.sources import open_sources
from mmaudio.distributed.devices import pick_device, set_threads
from mmaudio.distributed.ranks import Ranks
from mmaudio.doctor.environment import Gpu, device_bytes, find_gpu, free_disk, quantity
from mmaudio.network import find_variant
from mmaudio.settings.schema import TrainSettings
from mmaudio.store.format import TEXT
from mmaudio.trainer.costs import ActivationBytes, StateBytes, activation_bytes, flops_per_row, matmul_rate, state_bytes
from mmaudio.trainer.model_settings import compute_dtype, set_backend_flags, uses_amp, uses_compile

WORKSPACE = {"cuda": 1.5e9, "cpu": 0.5e9}  # CUDA's context and workspaces; the interpreter and torch
GB = 1e9


@dataclass(frozen=True)
class StoreNeeds:
    """Of the training stores: bytes on disk, bytes of captions kept on the device, and what reading a mean row takes."""

    total: int
    captions_on_device: int
    bytes_per_row: float


def store_needs(sources: Sequence[Source], caption_table_gb: float) -> StoreNeeds:
    """Rows count as often as training repeats them. Captions are kept a store wholly or not at all, in the order of the sources."""
    room, kept, bytes_read, num_rows = caption_table_gb * GB, 0, 0.0, 0
    for source in sources:
        store = source.store
        fits = store.layout == "compact" and store.shared_bytes <= room
        room -= store.shared_bytes if fits else 0
        kept += store.shared_bytes if fits else 0
        text = 0 if fits or store.layout != "compact" else prod(store.text_shape) * store.dtype(TEXT).itemsize
        bytes_read += store.num_rows * source.repeat * (store.row_bytes + text)
        num_rows += store.num_rows * source.repeat
    total = sum(store.num_rows * store.row_bytes + store.shared_bytes for store in {s.store.memmap_dir: s.store for s in sources}.values())
    return StoreNeeds(total, kept, bytes_read / max(1, num_rows))


@dataclass(frozen=True)
class MemoryNeeds:
    """Bytes of the process that takes most: what it keeps, what rows at work take, what is on the device besides."""

    state: StateBytes
    activations: ActivationBytes
    rows_at_once: int
    stores: int
    workspace: float

    @property
    def without_rows(self) -> float:
        return self.state.total + self.activations.fixed + self.stores + self.workspace

    @property
    def total(self) -> float:
        return self.without_rows + self.rows_at_once * self.activations.per_row

    def rows_that_fit(self, capacity: float) -> int:
        """The most rows at once that `capacity` bytes have room for; 0 or less where there is none."""
        return int((capacity - self.without_rows) // self.activations.per_row)


def rows_per_process(settings: TrainSettings, num_processes: int) -> int:
    """Of a step, rounded up where the batch does not divide."""
    return -(-settings.batch_size // num_processes)


def memory_needs(settings: TrainSettings, num_processes: int, stores: StoreNeeds | None, kind: str, *, amp: bool) -> MemoryNeeds:
    """Of a device of `kind` (cuda or cpu)."""
    share = rows_per_process(settings, num_processes)
    on_device = 0
    if stores is not None:
        on_device = stores.total if settings.placement == "device" else stores.captions_on_device
    state = _state(settings, settings.parallel, num_processes)
    activations = activation_bytes(settings.model, settings.duration_s, amp=amp, freeze=settings.freeze)
    return MemoryNeeds(state, activations, min(settings.micro_batch or share, share), on_device, WORKSPACE[kind])


def _state(settings: TrainSettings, parallel: str, num_processes: int) -> StateBytes:
    num_averages = len(settings.ema.sigma_rels) if settings.ema.enable else 0
    return state_bytes(settings.model, num_averages=num_averages, parallel=parallel, num_processes=num_processes, freeze=settings.freeze)


def shared_out(needs: MemoryNeeds, settings: TrainSettings, num_processes: int) -> MemoryNeeds:
    """The same run with parallel=fsdp."""
    return replace(needs, state=_state(settings, "fsdp", num_processes))


def micro_batch_that_fits(share: int, most: int) -> int | None:
    """The largest divisor of a process's share of the batch that is at most `most`; None where not even one row fits."""
    return max((size for size in range(1, min(share, most) + 1) if share % size == 0), default=None)


@dataclass(frozen=True)
class DiskNeeds:
    """Bytes that a run leaves in its folder, one more checkpoint while it is written included."""

    num_checkpoints: int
    checkpoint: int
    num_snapshots: int
    snapshot: int
    weights: int
    snapshots_total: float

    @property
    def total(self) -> float:
        return self.num_checkpoints * self.checkpoint + self.snapshots_total + self.weights


def disk_needs(settings: TrainSettings) -> DiskNeeds:
    """Checkpoints that are kept, weights files, and snapshots of the averages up to their budget."""
    ema = settings.ema
    state = _state(settings, "ddp", 1)
    checkpoint = state.parameters + state.moments + state.averages
    saved = settings.num_iterations // (settings.save_checkpoint_interval or settings.num_iterations)
    num_copies = sum(step <= settings.num_iterations for step in settings.save_copy_iterations)
    kept = min(max(saved, 1), settings.keep_checkpoints) + num_copies + 1
    num_snapshots = max(0, settings.num_iterations - ema.start) // ema.checkpoint_every + 1 if ema.enable else 0
    snapshots = min(num_snapshots * state.averages, ema.max_snapshots_gb * GB) if ema.enable else 0
    weights = (3 + num_copies + ema.enable) * state.parameters
    return DiskNeeds(kept, checkpoint, num_snapshots, state.averages, weights, snapshots)


# ---- The checks of a planned run: its device, what it takes of it, and where that is not enough

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
