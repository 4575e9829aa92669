"""What a training run is going to take, from its settings and stores: memory, disk, time, and bytes a second."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from mmaudio.base.settings import TrainSettings
from mmaudio.batches import Source
from mmaudio.store.schema import TEXT
from mmaudio.trainer.costs import ActivationBytes, StateBytes, activation_bytes, state_bytes

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
