"""How times are taken, and what the device can do at best: its rate of matrix products and of copies."""

import time
from collections.abc import Callable, Sequence
from statistics import median

import torch

from mmaudio.distributed.devices import pick_device, set_threads
from mmaudio.distributed.ranks import Ranks, read_ranks
from mmaudio.settings.schema import TrainSettings
from mmaudio.trainer.costs import MATMUL_SIDE, matmul_rate
from mmaudio.trainer.model_settings import set_backend_flags, uses_amp

REPEATS = {"cpu": 3, "cuda": 20}
SHORTEST_S = 0.01  # shorter calls are repeated until a measurement is this long
COPY_BYTES = {"cpu": 2**28, "cuda": 2**32}
NAMES = {torch.float32: "float32", torch.bfloat16: "bf16"}


def bench_device() -> torch.device:
    """The device to measure on, set up as training sets it up: threads, and on CUDA TF32 for products of float32."""
    set_threads(read_ranks())
    set_backend_flags(TrainSettings())
    return pick_device("auto", Ranks())


def precisions(device: torch.device) -> tuple[torch.dtype, ...]:
    """What training may compute in here: float32, and bf16 where the device has units for it."""
    return (torch.float32, torch.bfloat16) if uses_amp(TrainSettings(), device) else (torch.float32,)


def seconds_of(calls: Sequence[Callable[[], object]], device: torch.device) -> list[float]:
    """Median time of each of some calls, taken in turns, so that other work on the machine slows all of them alike."""

    def timed(call: Callable[[], object], num_calls: int) -> float:
        began = time.perf_counter()
        for _ in range(num_calls):
            call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return (time.perf_counter() - began) / num_calls

    for call in calls:
        timed(call, 1)  # chooses kernels, takes memory
    counts = [1 + int(SHORTEST_S / timed(call, 1)) for call in calls]
    rounds = [[timed(call, count) for call, count in zip(calls, counts, strict=True)] for _ in range(REPEATS[device.type])]
    return [median(times) for times in zip(*rounds, strict=True)]


def copy_rate(device: torch.device) -> float:
    """Measured bytes per second, read and written, of a large copy within the device's memory."""
    source = torch.zeros(COPY_BYTES[device.type], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * len(source) / seconds_of([lambda: target.copy_(source)], device)[0]


def print_table() -> None:
    """What everything else is compared with."""
    device = bench_device()
    print("| what the device can do | rate |\n|---|---|")
    for dtype in precisions(device):
        arithmetic = f"{NAMES[dtype]}{' (TF32)' if device.type == 'cuda' and dtype == torch.float32 else ''}"
        side = MATMUL_SIDE[device.type]
        print(f"| matrix product, {side} × {side}, {arithmetic} | {matmul_rate(device, dtype) / 1e12:.3g} TFLOP/s |")
    print(f"| copy, read and written | {copy_rate(device) / 1e9:.0f} GB/s |")
