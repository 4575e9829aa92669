"""Which weights of a run are meant; one file that says what it holds.

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
from mmaudio.base.errors import UserError, nearest
from mmaudio.base.specs import AudioSpec
from mmaudio.checkpoints.load import read_record
from mmaudio.checkpoints.run_files import CHECKSUMS, RunFiles, WeightsRecord, as_strings, checksums_beside, record_beside
from mmaudio.files.atomic import atomic_path, write_json
from mmaudio.files.checksums import ENTRY, PLACEHOLDER, SAFETENSORS, state_checksum
from mmaudio.files.ownership import at_end_of_links

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


def weights_metadata(record: WeightsRecord, weights: Mapping[str, Tensor], dtype_name: str) -> dict[str, Any]:
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
            write_json(record_beside(path), record)  # before the file is there, so that it is never without its record


# ---- Which weights file of a run is meant

CHOICES = ("ema", "last")  # of a run's weights


def run_names(folder: Path) -> list[str]:
    """The exp_ids of the runs that have weights in a folder; the one it is named after alone, if that has some."""
    own = RunFiles(folder, at_end_of_links(folder).name)
    if own.ema_final.is_file() or own.weights_last.is_file():
        return [own.exp_id]
    averaged = {path.name.removesuffix("_ema_final.pth") for path in folder.glob("*_ema_final.pth")}
    last = {path.name.removesuffix("_last.pth") for path in folder.glob("*_last.pth") if not path.name.endswith("_ckpt_last.pth")}
    return sorted(averaged | last)


def find_weights(run: Path, choice: str | None) -> Path:
    """The weights that are meant: a file itself; of a run's folder `ema`, `last` or a file of it.

    With None, the averaged ones of a folder if there are any, otherwise the last.

    Raises: UserError where there are none, or of several runs, or no such file.
    """
    if run.is_dir():
        return _find_in(run, choice)
    if not run.is_file():
        raise UserError(f"no run at {run}; a run's folder is output/<exp_id>")
    if choice is not None:
        raise UserError(f"{run} is a file, so --weights {choice} has nothing to choose from; give the run's folder, or leave it out")
    return run


def _find_in(folder: Path, choice: str | None) -> Path:
    if choice not in (None, *CHOICES):
        return _find_file(folder, choice)
    names = run_names(folder)
    if not names:
        checkpoint = next(iter(sorted(folder.glob("*_ckpt_last.pth"))), None)
        way_out = f"its checkpoint has some: --weights {checkpoint.name}" if checkpoint else "training writes <exp_id>_last.pth there"
        raise UserError(f"{folder} holds no weights of a run yet; {way_out}")
    if len(names) > 1:
        raise UserError(f"{folder} holds weights of several runs ({', '.join(names)}); choose a file of it with --weights FILE")
    files = RunFiles(folder, names[0])
    if choice is None:
        _refuse_stale(files)
        return files.ema_final if files.ema_final.is_file() else files.weights_last
    path, other = (files.ema_final, "last") if choice == "ema" else (files.weights_last, "ema")
    if not path.is_file():
        reason = " (training writes it when it ends, unless ema.enable=False)" if choice == "ema" else ""
        raise UserError(f"{folder} holds no {path.name}{reason}; take the others with --weights {other}")
    return path


def _refuse_stale(files: RunFiles) -> None:
    """Raises: UserError where a run has trained on since its averages were written, so that either may be meant."""
    averaged, last = (read_record(path) if path.is_file() else None for path in (files.ema_final, files.weights_last))
    if averaged is not None and last is not None and averaged.step < last.step:
        raise UserError(
            f"{files.ema_final.name} is of step {averaged.step} and {files.weights_last.name} of step {last.step};"
            " say which is meant: --weights ema or --weights last"
        )


def _find_file(folder: Path, name: str) -> Path:
    for path in (Path(name), folder / name):
        if path.is_file():
            return path
    known = [*CHOICES, *sorted(path.name for path in folder.iterdir() if path.suffix in (*SUFFIXES["pth"], SAFETENSORS))]
    raise UserError(f"--weights is {name}, which is neither {' nor '.join(CHOICES)} nor a file{nearest(name, known)}")
