"""The plain way to read a store while training: mapped columns, a row at a time, collated by a DataLoader."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tensordict import TensorDict
from torch.utils.data import DataLoader, Dataset

from mmaudio.store.format import TEXT, TEXT_ROW, TEXT_TABLE


class MappedRows(Dataset[dict[str, Any]]):
    """A store of video rows; of the compact layout it looks the text up in the table of captions."""

    def __init__(self, memmap_dir: Path, ids: Sequence[str]) -> None:
        self.columns, self.ids = TensorDict.load_memmap(memmap_dir), ids
        self.has_table = TEXT_TABLE in set(self.columns.keys())

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, row: int) -> dict[str, Any]:
        columns = self.columns
        text = columns[TEXT_TABLE][columns[TEXT_ROW][row]] if self.has_table else columns[TEXT][row]
        return {
            "id": self.ids[row],
            "a_mean": columns["mean"][row],
            "a_std": columns["std"][row],
            "clip_features": columns["clip_features"][row],
            "sync_features": columns["sync_features"][row],
            "text_features": text,
            "video_exist": True,
            "text_exist": True,
        }


def plain_batches(
    memmap_dir: Path, ids: Sequence[str], order: Sequence[int], batch_size: int, num_workers: int
) -> Iterator[dict[str, Any]]:
    """Batches of these rows, in this order; the mappings end with the iterator."""
    loader = DataLoader(MappedRows(memmap_dir, ids), batch_size, sampler=order, num_workers=num_workers, drop_last=True)
    yield from loader
