"""Weights on their own, for other programs and other machines: one file that says what it holds.

A `.safetensors` file says it in its own header, its checksum too. A `.pth` file has to stay what the published system loads, a
dictionary of tensors and nothing else, so there the record lies beside it, as with every weights file of a run.
"""

import dataclasses
import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

import mmaudio
from mmaudio.base.checksums import ENTRY, PLACEHOLDER, state_checksum
from mmaudio.base.errors import UserError
from mmaudio.base.files import atomic_path, write_json
from mmaudio.base.specs import AudioSpec
from mmaudio.base.tensor_files import SAFETENSORS
from mmaudio.checkpoints.run_state import CHECKSUMS, WeightsRecord, as_strings, checksums_beside, record_path

SUFFIXES = {"safetensors": (SAFETENSORS,), "pth": (".pth", ".pt")}  # of the formats; the first is given where none is
STATISTICS = ("latent_mean", "latent_std")  # always float32: every latent is scaled by them


def convert(weights: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """The tensors in this dtype, each with memory of its own; the latent statistics in float32.

    Raises: UserError for numbers too large for the dtype.
    """
    result = {}
    for name, tensor in weights.items():
        wanted = torch.float32 if name in STATISTICS else dtype if tensor.is_floating_point() else tensor.dtype
        own = tensor.detach().to("cpu", wanted).contiguous()
        if not bool(torch.isfinite(own).all()):
            raise UserError(f"{name} of these weights holds numbers too large for {wanted}; export in fp32 or bf16")
        result[name] = own if own.untyped_storage().nbytes() == own.nbytes else own.clone()
    return result


def describe(record: WeightsRecord, weights: Mapping[str, Tensor], dtype_name: str) -> dict[str, Any]:
    """All that is said of exported weights, as JSON values: their record, their audio, what made the file."""
    audio = AudioSpec(record.mode, record.duration_s)
    return {
        **dataclasses.asdict(record),
        "sample_rate_hz": audio.rate_hz,
        "latent_channels": audio.latent_channels,
        **{name: weights[name].flatten().tolist() for name in STATISTICS},
        "dtype": dtype_name,
        "versions": {"mmaudio": mmaudio.__version__, "torch": torch.__version__, "safetensors": importlib.metadata.version("safetensors")},
    }


def write_export(path: Path, weights: Mapping[str, Tensor], told: Mapping[str, Any]) -> None:
    """Write weights and what is said of them, complete or not at all; the suffix of `path` decides the format.

    Raises: UserError where the disk does not take them.
    """
    with atomic_path(path) as temporary:
        try:
            if path.suffix == SAFETENSORS:
                save_file(dict(weights), temporary, {"format": "pt", ENTRY: PLACEHOLDER} | as_strings(told))
                state_checksum(temporary)
            else:
                torch.save(dict(weights), temporary)
        except (SafetensorError, RuntimeError) as error:  # neither library says that a disk is full by an OSError
            raise UserError(f"{path} cannot be written ({str(error).splitlines()[0]}); make room, or name another place") from None
        if path.suffix != SAFETENSORS:
            record = {**told, CHECKSUMS: checksums_beside(temporary, path)}
            write_json(record_path(path), record)  # before the file is there, so that it is never without its record
