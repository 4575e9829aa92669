"""What a run computes in, and whether it compiles: as asked, or where the device gains by it."""

import logging

import torch

from mmaudio.base.settings import BaseSettings

log = logging.getLogger(__name__)


def has_bf16_units(device: torch.device) -> bool:
    """Whether a device computes in bf16 itself, instead of imitating it."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def allow_tf32() -> None:
    """Process-wide: matrix products and convolutions of float32 may be in TF32, where a device has it."""
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True


def uses_amp(settings: BaseSettings, device: torch.device) -> bool:
    """Whether to run in bf16: as asked, or where the device has units for it."""
    has_units = has_bf16_units(device)
    if settings.amp is True and not has_units:
        log.warning("amp=True: %s has no bf16 units, so this is slower than amp=False", device)
    return has_units if settings.amp == "auto" else settings.amp is True


def compute_dtype(*, amp: bool) -> torch.dtype:
    """What matrix products of training are in."""
    return torch.bfloat16 if amp else torch.float32


def uses_compile(settings: BaseSettings, device: torch.device) -> bool:
    """Whether to compile: as asked, or on CUDA."""
    if settings.compile is True and device.type != "cuda":
        log.warning("compile=True: on %s compiling takes longer than it saves in a short run", device)
    return device.type == "cuda" if settings.compile == "auto" else settings.compile is True


def set_backend_flags(settings: BaseSettings) -> None:
    """Process-wide choices of arithmetic: TF32 for what is not in bf16, and cuDNN's search for the fastest kernel."""
    allow_tf32()
    torch.backends.cudnn.benchmark = settings.cudnn_benchmark
