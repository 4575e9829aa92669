"""What comparing a weights file with its checksums costs beside reading it alone, from the page cache."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.rates import seconds_of
from mmaudio.files.atomic import sync_file
from mmaudio.files.checksums import ENTRY, PLACEHOLDER, SAFETENSORS, state_checksum
from mmaudio.files.tensor_files import all_finite, read_tensor_file
from mmaudio.weights.verification import read_fingerprint

NUM_TENSORS, TENSOR_SIDE = 256, 1024  # 1.07 GB of float32
GB = 1e9


def _use(state: dict[str, Tensor]) -> None:
    """Touch every byte, as loading weights does."""
    for tensor in state.values():
        all_finite(tensor)


def _unknown(path: Path) -> Path:
    """The file, as one that was just written, which no process remembers."""
    os.utime(path)
    return path


def _alone(path: Path) -> dict[str, Tensor]:
    if path.suffix == SAFETENSORS:
        return load_file(path)
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    return state


def print_table(num_tensors: int = NUM_TENSORS) -> None:
    """For both formats: read alone, read and compared, and compared while a SHA-256 is taken, as generation's records have it."""
    state = {f"blocks.{number}.weight": torch.randn(TENSOR_SIDE, TENSOR_SIDE) for number in range(num_tensors)}
    print("| file | reading alone, s/GB | reading and checking, s/GB | later by, s/GB | with its SHA-256, s/GB |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for path in (Path(folder) / "weights.pth", Path(folder) / "weights.safetensors"):
            if path.suffix == SAFETENSORS:
                save_file(state, path, {ENTRY: PLACEHOLDER})
                state_checksum(path)
            else:
                torch.save(state, path)
            sync_file(path)  # so that the disk is not written to meanwhile
            ways: list[Callable[[], object]] = [
                lambda path=path: _use(_alone(_unknown(path))),  # type: ignore[misc]
                lambda path=path: _use(read_tensor_file(_unknown(path))),  # type: ignore[misc]
                lambda path=path: read_fingerprint(_unknown(path)),  # type: ignore[misc]
            ]
            size_gb = path.stat().st_size / GB
            alone, checked, digest = (seconds / size_gb for seconds in seconds_of(ways, torch.device("cpu")))
            print(f"| {size_gb:.2f} GB {path.suffix} | {alone:.2f} | {checked:.2f} | {checked - alone:.2f} | {digest:.2f} |", flush=True)
            path.unlink()
