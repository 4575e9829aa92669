"""What a call takes of the device's memory."""

import ctypes
import gc
import re
from collections.abc import Callable
from pathlib import Path

import torch

STATUS, FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def _resident_bytes(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", STATUS.read_text())
    return 2**10 * int(found[1]) if found else 0


def peak_bytes(call: Callable[[], object], device: torch.device) -> int | None:
    """What a call takes at most, beyond what is in use before it; None where the system does not tell (a CPU without Linux and glibc)."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return torch.cuda.max_memory_reserved(device) - before
    release = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc keeps what was freed, which would hide as much again
    if release is None or not FORGET.exists():
        return None
    release(0)
    FORGET.write_text("5")  # the peak so far is forgotten
    before = _resident_bytes("VmRSS")
    call()
    return _resident_bytes("VmHWM") - before
