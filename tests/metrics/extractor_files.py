"""Weight files of extractors in the published layouts, filled with normals of their names; small on disk, for rows overlap in storage."""

import json
import zlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tests.golden.fill import GOLDEN, normals

ROW_STEP = 13  # floats from one row to the next
NUM_TOKENS = 50_265


def overlapping(name: str, shape: tuple[int, ...]) -> Tensor:
    """Normals of a name with variance 1 / fan-in, each row a shift of the one before it: few bytes in a file."""
    rows, columns = shape[0], int(np.prod(shape[1:]))
    base = torch.from_numpy(normals(name, (ROW_STEP * (rows - 1) + columns,))) / columns**0.5
    return base.as_strided((rows, columns), (ROW_STEP, 1)).unflatten(1, shape[1:])


def filled(name: str, shape: tuple[int, ...]) -> Tensor:
    """Weights of a name, as they may be: scales near 1, variances above 0, matrices that keep the size of what they are given."""
    if len(shape) > 1:
        return overlapping(name, shape)
    z = torch.from_numpy(np.asarray(normals(name, shape)))
    if name.endswith("running_var"):
        return 100 * (1 + 0.1 * z).abs()
    if name.endswith("running_mean"):
        return 10 * z - 40
    return 1 + 0.1 * z if "norm" in name.lower() and name.endswith("weight") else 0.1 * z


def _window_index() -> Tensor:
    """Which entry of the table of relative places a pair of an 8 × 8 window has, (64, 64): rows and columns apart, −7 to 7."""
    places = torch.stack(torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")).flatten(1)
    down, right = (places[:, :, None] - places[:, None, :]) + 7
    return 15 * down + right


def _whole_number(name: str) -> Tensor | None:
    if name.endswith("relative_position_index"):
        return _window_index()
    return torch.tensor(100) if name.endswith("num_batches_tracked") else None


def clap_state() -> dict[str, Tensor]:
    """The whole layout of the published LAION-CLAP file."""
    shapes = {name: tuple(shape) for name, shape in json.loads((GOLDEN / "clap_laion.json").read_text()).items()}
    found = {name: _whole_number(name) for name in shapes}
    return {name: number if (number := found[name]) is not None else filled(name, shape) for name, shape in shapes.items()}


def write_clap(path: Path) -> Path:
    """A training checkpoint, as published: prefixed names beside an optimizer whose learning rate is a number of NumPy's."""
    state = {f"module.{name}": tensor for name, tensor in clap_state().items()}
    state["module.text_branch.embeddings.position_ids"] = torch.arange(514)[None]
    optimizer = {"state": {}, "param_groups": [{"lr": np.float64(1e-4), "params": [0]}]}
    torch.save({"epoch": 15, "name": "a run", "state_dict": state, "optimizer": optimizer}, path)
    return path


def write_state(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> Path:
    """A plain file of named tensors."""
    torch.save({name: filled(name, tuple(shape)) for name, shape in shapes.items()}, path)
    return path


@cache
def _byte_letters() -> tuple[str, ...]:
    """How byte-level vocabularies spell each byte: itself where it is printed, else a letter from 256 on (Radford et al. 2019)."""
    printed = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return tuple(chr(byte) if byte in printed else chr(next(others)) for byte in range(256))


def write_tokenizer(folder: Path) -> Path:
    """`vocab.json` and `merges.txt` of RoBERTa's size: its special tokens, all bytes, a few pairs, and words nobody uses."""
    merges = ["d o", "do g", "Ġ dog"]
    words = ["<s>", "<pad>", "</s>", "<unk>", *_byte_letters(), *("".join(pair.split()) for pair in merges)]
    words += [f"unused{number}" for number in range(NUM_TOKENS - len(words) - 1)] + ["<mask>"]
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    return folder


def sound(name: str, num_samples: int) -> Tensor:
    """Noise that comes and goes."""
    place = torch.arange(num_samples) / num_samples
    return 0.1 * torch.from_numpy(normals(name, (num_samples,))) * (1 + torch.sin(40 * place)) * (zlib.crc32(name.encode()) % 3 + 1)
