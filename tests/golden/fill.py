"""Deterministic weights and inputs that the golden numbers were made with.

Standard normals of a name: NumPy's Philox generator keyed by the crc32 of the name. Weights are scaled by kind.
"""

import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

GOLDEN = Path(__file__).parent


def normals(name: str, shape: tuple[int, ...]) -> np.ndarray:
    generator = np.random.Generator(np.random.Philox(key=zlib.crc32(name.encode())))
    return generator.standard_normal(shape, dtype=np.float32)


def weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    z = normals(name, shape)
    if name.endswith("latent_std"):
        return np.float32(1) + np.float32(0.1) * np.abs(z)
    if len(shape) > 1:
        return z / np.float32(np.sqrt(np.prod(shape[1:])))
    return np.float32(1) + np.float32(0.1) * z if name.endswith("norm.weight") else np.float32(0.1) * z


def fill_(module: nn.Module) -> None:
    """Overwrite every entry of the state dict, in place."""
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            tensor.copy_(torch.from_numpy(np.asarray(weight(name, tuple(tensor.shape)))))


def given(name: str, *shape: int) -> Tensor:
    """The input called `name`."""
    return torch.from_numpy(normals("input:" + name, shape))


def error(got: Tensor | np.ndarray, want: np.ndarray) -> float:
    """Largest difference over the largest golden value."""
    got = got.detach().numpy() if isinstance(got, Tensor) else got
    assert got.shape == want.shape
    return float(np.abs(got.astype(np.float64) - want).max() / max(np.abs(want).max(), 1e-30))
