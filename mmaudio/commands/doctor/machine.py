"""What this machine is: interpreter, devices, memory, disk."""

import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch

from mmaudio import __version__
from mmaudio.base.memory import memory_bytes
from mmaudio.base.ranks import num_cores
from mmaudio.commands.doctor.sheet import quantity


def free_disk(place: Path) -> int:
    """Bytes that are free where `place` is, or would be made."""
    return shutil.disk_usage(nearest_there(place)).free


def nearest_there(place: Path) -> Path:
    """`place`, or the nearest folder above it that exists."""
    absolute = place.absolute()
    return next(path for path in (absolute, *absolute.parents) if path.exists())


def device_bytes(device: torch.device) -> int:
    """Memory a process can have on a device: a GPU's in all, or what is available of the main memory."""
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else memory_bytes()[1]


def machine_lines(output: Path) -> Iterator[tuple[str, str]]:
    """What there is, by name.

    Args:
        output: where results are going to be, whose disk is looked at.
    """
    total, available = memory_bytes()
    yield "python", f"{platform.python_version()} ({platform.system()} {platform.machine()})"
    yield "mmaudio", f"{__version__} in {Path(__file__).parents[2]}"
    yield "torch", f"{torch.__version__}, {'CUDA ' + torch.version.cuda if torch.version.cuda else 'without CUDA'}"
    yield from _gpu_lines()
    yield "cores", f"{num_cores()} of {os.cpu_count()}"
    yield "memory", f"{quantity(total, 'B')}, {quantity(available, 'B')} available"
    yield "disk", f"{quantity(free_disk(output), 'B')} free at {nearest_there(output)}"


def _gpu_lines() -> Iterator[tuple[str, str]]:
    if not torch.cuda.is_available():
        yield "GPU", "none that torch can use"
        return
    bf16 = "with" if torch.cuda.is_bf16_supported(including_emulation=False) else "without"
    for index in range(torch.cuda.device_count()):
        found = torch.cuda.get_device_properties(index)
        yield f"cuda:{index}", f"{found.name}, {quantity(found.total_memory, 'B')}, {bf16} bf16 units"
