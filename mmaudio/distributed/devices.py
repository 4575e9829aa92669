"""The device of a rank, its threads, its arithmetic (bf16, TF32), torch.compile."""

import logging
import os
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch._dynamo.exc import TorchDynamoException

from mmaudio.base.errors import UserError
from mmaudio.distributed.ranks import Ranks

log = logging.getLogger(__name__)


def pick_device(name: str, ranks: Ranks) -> torch.device:
    """The device a setting names: `cuda` (this rank's), `cuda:1`, `cpu`, or `auto` (CUDA if there is one).

    Raises: UserError where the device is not there, the name is unknown, or a machine has fewer devices than processes.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")  # no device anyone means
    if device.type not in ("cuda", "cpu"):
        raise UserError(f"device is {name!r}; want cuda, cuda:N, cpu or auto")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError("device is 'cuda' but this machine has no CUDA device; use the CPU instead: --device cpu (train.py: device=cpu)")
    count = torch.cuda.device_count() if device.type == "cuda" else 0
    sees_own = ranks.num_devices is not None and count < ranks.num_devices  # a launcher shows each process its own devices only
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", 0 if sees_own else ranks.local_rank)
    if device.type == "cuda" and max(device.index or 0, 0 if sees_own else ranks.local_world_size - 1) >= count:
        raise UserError(f"device is {name!r} and this machine has {count} for {ranks.local_world_size} processes; start fewer of them")
    return device


def set_threads(ranks: Ranks) -> int:
    """Give each process of a machine its share of the cores, or fewer if OMP_NUM_THREADS says so. Returns the count.

    Two pools that together exceed the cores slow a small step tenfold, so OMP_NUM_THREADS can lower the share only.
    """
    share = max(1, len(os.sched_getaffinity(0)) // ranks.local_world_size)
    asked = os.environ.get("OMP_NUM_THREADS", "")
    threads = min(share, int(asked)) if asked.isdigit() and int(asked) > 0 else share
    torch.set_num_threads(threads)
    return threads


# ---- Arithmetic


def has_bf16_units(device: torch.device) -> bool:
    """Whether a device computes in bf16 itself, instead of imitating it."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def allow_tf32() -> None:
    """Process-wide: matrix products and convolutions of float32 may be in TF32, where a device has it."""
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True


# ---- torch.compile, which not every machine can


def compile_(module: nn.Module) -> None:
    """Compile a module in place: the same parameters, attributes and children, another way to run its forward."""
    module.forward = CompiledCall(module.forward)


class CompiledCall:
    """A function, compiled; where the first call shows that this machine cannot, the function as it is."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._plain = function
        self._call: Callable[..., Any] = torch.compile(function)
        self._has_run = False

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        try:
            result = self._call(*inputs, **named)
        except TorchDynamoException as error:
            if self._has_run:
                raise
            log.warning("compiling failed (%s); going on without, as with compile=False", str(error).strip().split("\n")[0])
            self._call = self._plain
            result = self._call(*inputs, **named)
        self._has_run = True
        return result
