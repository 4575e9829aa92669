"""The data of a run: stores one after another, some of them repeated, read as one long list of rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmaudio.base.specs import AudioSpec
from mmaudio.store import Store
from mmaudio.store.schema import TEXT, TEXT_SHAPE, columns

_BATCH_FIELDS = {"mean": "a_mean", "std": "a_std"}  # what the published system calls them in a batch; others keep their name


@dataclass(frozen=True)
class Source:
    """One store in a mixture."""

    name: str
    kind: str  # `video` or `audio`, as configured; check_sources compares it with what the store holds
    store: Store
    repeat: int = 1

    @classmethod
    def open(cls, name: str, tsv: Path, memmap_dir: Path, *, kind: str | None = None, repeat: int = 1) -> "Source":
        """A source whose store is still to be opened; `kind` None means what the store holds. Raises: as `Store.open`."""
        store = Store.open(tsv, memmap_dir)
        return cls(name, kind or store.kind, store, repeat)


@dataclass(frozen=True)
class Batch:
    """Rows of a mixture, (batch, tokens, width) each; dtypes as stored until `to` makes all of them float32.

    A video stream that a row's store does not have is zero and flagged absent.
    """

    ids: list[str]
    captions: list[str]
    positions: Tensor  # (batch,) int64: training: place in the global batch; validation: place in the whole set
    a_mean: Tensor  # latents' posterior mean …
    a_std: Tensor  # … and standard deviation
    clip_features: Tensor
    sync_features: Tensor
    text_features: Tensor
    video_exist: Tensor  # (batch,) bool
    text_exist: Tensor  # (batch,) bool

    def __len__(self) -> int:
        return len(self.ids)

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                yield field.name, value

    def to(self, device: torch.device | str) -> "Batch":
        """The batch on a device, features as float32. They travel in the dtype they were stored in."""
        moved = {name: tensor.to(device) for name, tensor in self._tensors()}
        wide: dict[str, Any] = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in moved.items()}
        return replace(self, **wide)

    def part(self, start: int, stop: int) -> "Batch":
        """Rows start … stop - 1, as views: a micro batch."""
        tensors: dict[str, Any] = {name: tensor[start:stop] for name, tensor in self._tensors()}
        return replace(self, ids=self.ids[start:stop], captions=self.captions[start:stop], **tensors)


class Mixture:
    """Sources one after another, each as often as it is repeated; row numbers run through all of them."""

    def __init__(self, sources: Sequence[Source], spec: AudioSpec) -> None:
        """Join sources that `check_sources` found to fit.

        Args:
            sources: in the order in which their rows are numbered.
            spec: lengths of the model; sizes the zeros of streams that a store does not have.
        Raises: ValueError for no sources or a repeat below 1.
        """
        if not sources:
            raise ValueError("a mixture needs at least one source")
        if any(source.repeat < 1 for source in sources):
            raise ValueError(f"repeat is {[source.repeat for source in sources]}; want at least 1 each")
        self.sources = tuple(sources)
        self.spec = spec
        self._ends = np.cumsum([source.store.num_rows * source.repeat for source in sources])
        self._row_shapes = {**columns("video", spec), TEXT: TEXT_SHAPE}
        self._dtypes = {name: self._common_dtype(name) for name in self._row_shapes}

    def __len__(self) -> int:
        return int(self._ends[-1])

    def _common_dtype(self, name: str) -> torch.dtype:
        """The stored dtype of a column, or float32 where stores differ or none has it."""
        dtypes = {source.store.dtype(name) for source in self.sources if name == TEXT or name in source.store.feature_names}
        return dtypes.pop() if len(dtypes) == 1 else torch.float32

    def _place(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Source and row in its store of each index. Raises: IndexError for an index that is not there."""
        if len(indices) and not (indices.min() >= 0 and indices.max() < len(self)):
            raise IndexError(f"rows {indices.min()} to {indices.max()} of a mixture of {len(self)}")
        source = np.searchsorted(self._ends, indices, side="right")
        num_rows = np.array([each.store.num_rows for each in self.sources])
        starts = np.concatenate(([0], self._ends[:-1]))
        return source, (indices - starts[source]) % num_rows[source]

    def gather(self, indices: np.ndarray | Tensor, positions: np.ndarray | Tensor | None = None) -> Batch:
        """Copy rows into a batch on the CPU.

        Args:
            indices: (batch,) int64, row numbers of the mixture.
            positions: what `Batch.positions` shall say; by default 0 … batch - 1.
        Raises: IndexError for an index that is not there.
        """
        indices = np.asarray(indices, dtype=np.int64)
        owners, rows = self._place(indices)
        # NumPy throughout: this runs beside the training loop, and a torch operation here would start a second pool of threads.
        batch = {name: self._blank(name, len(indices)) for name in self._row_shapes}
        for at in np.unique(owners):
            store, places = self.sources[at].store, np.flatnonzero(owners == at)
            for name in (*store.feature_names, TEXT):
                store.copy_rows_(batch[name], name, rows[places], places)
        has_video = np.array([source.store.kind == "video" for source in self.sources])
        owned = [(self.sources[owner].store, row) for owner, row in zip(owners, rows, strict=True)]
        return Batch(
            ids=[store.ids[row] for store, row in owned],
            captions=[store.captions[row] for store, row in owned],
            positions=torch.from_numpy(np.arange(len(indices)) if positions is None else np.array(positions, dtype=np.int64)),
            video_exist=torch.from_numpy(has_video[owners]),
            text_exist=torch.from_numpy(np.ones(len(indices), dtype=bool)),
            **{_BATCH_FIELDS.get(name, name): tensor for name, tensor in batch.items()},
        )

    def _blank(self, name: str, num_rows: int) -> Tensor:
        dtype = self._dtypes[name]
        flat = np.zeros(num_rows * int(np.prod(self._row_shapes[name])) * dtype.itemsize, dtype=np.uint8)
        return torch.from_numpy(flat).view(dtype).view(num_rows, *self._row_shapes[name])

    def ids(self) -> list[str]:
        """Ids of all rows, in order, repeats included."""
        return [row_id for source in self.sources for row_id in source.store.ids * source.repeat]

    def latent_statistics(self) -> tuple[Tensor, Tensor]:
        """Per-channel mean and standard deviation of the first video store's latents, or of the first store's if none is video."""
        first = next((source for source in self.sources if source.store.kind == "video"), self.sources[0])
        return first.store.latent_statistics()
