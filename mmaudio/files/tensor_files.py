"""Torch and safetensors files read lazily, checked, put into a network; and whether numbers are finite."""

import logging
import math
import pickle
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from mmaudio.base.errors import UserError
from mmaudio.files.checksums import SAFETENSORS, check_sums, damaged, is_verified, stamp

log = logging.getLogger(__name__)
# What torch and safetensors raise at bytes that are no file of theirs; reading other bytes as a pickle can fail in most of these ways
_NOT_ITS_FORMAT = (RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError, pickle.UnpicklingError, SafetensorError)
NUM_TOLD = 3  # of the tensors that do not fit
_MOST_TRIES = 3  # to read a file that is replaced while it is read
_unchecked: set[Path] = set()  # files of which it was said that they are
Shapes = dict[str, tuple[int, ...]]
_NONE: Mapping[str, tuple[int, ...]] = MappingProxyType({})
Part = TypeVar("Part", bound=nn.Module)


def read_tensor_file(path: Path) -> Any:
    """What a file of tensors holds, on the CPU, by mmap, after all of it was compared with the checksums that it carries.

    A file that carries none, and was not compared with a published one either, is read all the same, with a warning, once.

    Raises: DamagedFileError if it is torn, its content changed or more than data, UserError if it is missing or the disk does not give it.
    """
    content, is_checked = _read(path)
    if not is_checked and not is_verified(path) and (place := path.resolve()) not in _unchecked:
        _unchecked.add(place)
        log.warning("%s carries no checksum and is used unchecked: damage in it would not be noticed", path)
    return content


def verify_tensor_file(path: Path) -> bool:
    """Read all of a file of tensors. Returns: whether it carries checksums, which are then right. Raises: as `read_tensor_file`."""
    _, is_checked = _read(path)
    return is_checked


def _read(path: Path) -> tuple[Any, bool]:
    """What a file holds, and whether it could be compared with checksums."""
    if path.is_dir():
        raise UserError(f"{path} is a folder; name a file in it")
    if not path.is_file():
        raise UserError(f"no file at {path}")
    try:
        for _ in range(_MOST_TRIES):
            before = stamp(path)
            is_checked = check_sums(path)
            content = _load(path)
            if stamp(path) == before:  # otherwise it was replaced meanwhile, as a training does with its own
                break
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    except _NOT_ITS_FORMAT:
        raise damaged(path) from None
    return content, is_checked


def _load(path: Path) -> Any:
    if path.suffix == SAFETENSORS:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pickles by other programs, which are refused anyway
        # Files from before torch 1.6 are no zip archives and can only be read at once.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The named tensors of a file. Raises: as `read_tensor_file`, and UserError for a file of anything else."""
    return named_tensors(read_tensor_file(path), path)


def named_tensors(content: Any, path: Path) -> dict[str, Tensor]:
    """What `path` holds, if it is named tensors. Raises: UserError."""
    if not isinstance(content, Mapping) or not content or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"{path} holds no weights: want a file of named tensors")
    return dict(content)


# ---- Whether a state dict is the one that is wanted


def shapes_of(network: nn.Module) -> Shapes:
    """Name → shape of every entry of a network's state dict, in its order."""
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def mismatches(state: Mapping[str, Any], wanted: Shapes, dispensable: tuple[str, ...] = ()) -> list[str]:
    """What keeps a state dict from being the wanted one: a few words for each tensor that is misshapen, missing or extra.

    Names that start with one of `dispensable` may be missing.
    """
    wrong = []
    for name, shape in wanted.items():
        tensor = state.get(name)
        if name not in state:
            if not name.startswith(dispensable):
                wrong.append(f"{name} is missing")
        elif not isinstance(tensor, Tensor):
            wrong.append(f"{name} is no tensor but {type(tensor).__name__}")
        elif tuple(tensor.shape) != shape:
            wrong.append(f"{name} is {tuple(tensor.shape)}, want {shape}")
    return wrong + [f"{name} is not a tensor of it" for name in state if name not in wanted]


def refusal(wrong: list[str], owner: str, advice: str = "get the published file anew") -> UserError:
    """One sentence for weights that are not `owner`'s: the first tensors that do not fit, how many there are, what to do."""
    more = f" (and {len(wrong) - NUM_TOLD} more)" if len(wrong) > NUM_TOLD else ""
    return UserError(f"these weights are not of {owner}: {'; '.join(wrong[:NUM_TOLD])}{more}; {advice}")


# ---- Weights of a file into a network, without a second copy


def load_part(
    build: Callable[[], Part],
    state_dict: Mapping[str, Tensor],
    groups: str | tuple[str, ...],
    what: str,
    unused: Mapping[str, tuple[int, ...]] = _NONE,
) -> Part:
    """One part of a network from the file of the whole, ready for inference.

    The file's other groups are dropped. Tensors are taken over, not copied, so a file read by mmap is in memory once; the caller's
    dictionary is not changed.

    Args:
        build: makes the part; its tensors are made on the meta device.
        groups: how the names of its tensors begin.
        what: the part, as a sentence has it.
        unused: name → shape of tensors in these groups that nothing is computed with.
    Raises: UserError naming the first tensors that are missing, unknown or of another shape.
    """
    state = {name: tensor for name, tensor in state_dict.items() if name.startswith(groups)}
    with torch.device("meta"):
        part = build()
    if wrong := mismatches(state, shapes_of(part) | dict(unused)):
        raise refusal(wrong, what)
    assign_(part, state)
    return part


def assign_(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Make a module of meta tensors one for inference in float32, whose parameters are the tensors of `state` themselves."""
    module.load_state_dict({name: state[name].detach().float() for name in module.state_dict()}, assign=True)
    module.eval().requires_grad_(False)


# ---- Whether numbers are finite, at the speed of reading them


def all_finite(values: Tensor) -> bool:
    """Whether no number of a floating tensor is infinite or none.

    By its extremes, to which a NaN passes on; `torch.isfinite` was measured to take twenty times as long.
    """
    if values.dtype.itemsize == 1:
        values = values.float()  # there are no extremes of float8
    return values.numel() == 0 or all(math.isfinite(extreme.item()) for extreme in torch.aminmax(values))


def finite_rows(values: Tensor) -> Tensor:
    """Which rows hold no number that is infinite or none, (rows,) bool, for (rows, …)."""
    flat = values.flatten(1)
    return torch.isfinite(flat.amin(1)) & torch.isfinite(flat.amax(1))


def first_not_finite(state: Mapping[str, Tensor]) -> str | None:
    """The name of the first tensor that holds a number that is none, or infinite."""
    return next((name for name, tensor in state.items() if tensor.is_floating_point() and not all_finite(tensor)), None)
