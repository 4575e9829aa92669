"""The tensors of published codec files, of true names and shapes, filled as the golden numbers were made with."""

import gzip
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mmaudio.codec.snake import kaiser_taps
from mmaudio.codec.vae import mel_statistics
from tests.golden.fill import normals

FOLDER = Path(__file__).parent
VOCODER = {"16k": "bigvgan_v1", "44k": "bigvgan_v2"}
FORMS = ("weightnorm", "plain")


def golden(name: str) -> dict[str, np.ndarray]:
    return dict(np.load(FOLDER / f"{name}.npz"))


def manifest(name: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a state dict, in order."""
    rows = json.loads(gzip.decompress((FOLDER / f"{name}.json.gz").read_bytes()))
    return {name: tuple(shape) for name, shape, _ in rows}


def filled(name: str, shape: tuple[int, ...]) -> Tensor:
    """By the rule of tests/golden/fill.py, but in place (these are large), and unscaled where there is no axis."""
    z = np.asarray(normals(name, shape))
    if len(shape) > 1:
        z /= np.float32(np.sqrt(np.prod(shape[1:])))
    elif shape:
        z *= np.float32(0.1)
    return torch.from_numpy(z)


def vae_tensors(mode: str, half: str = "") -> dict[str, Tensor]:
    """What v1-16.pth or v1-44.pth holds; with `half` only the tensors of "encoder" or "decoder", and the statistics."""
    wanted = {name: shape for name, shape in manifest(f"vae_{mode}").items() if name.startswith(half) and not name.startswith("data_")}
    mean, std = mel_statistics(mode)
    return {"data_mean": mean, "data_std": std} | {name: filled(name, shape) for name, shape in wanted.items()}


def vocoder_tensors(mode: str, form: str = "weightnorm") -> dict[str, Tensor]:
    """What is under "generator" in the vocoder's file, in either form."""
    shapes = manifest(f"{VOCODER[mode]}_{form}")
    return {name: kaiser_taps().view(shape) if name.endswith(".filter") else filled(name, shape) for name, shape in shapes.items()}
