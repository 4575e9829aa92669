"""How long a checkpoint holds training up: the copy of everything that is saved into host memory; writing goes on beside it."""

import time
from statistics import median

import torch

from mmaudio.checkpoints.save import HostCopies
from mmaudio.network import build_network

VARIANT = "small_16k"
COPIES_OF_WEIGHTS = 5  # the weights, AdamW's two moments, two averages
REPEATS = 4


def print_table(device: torch.device) -> None:
    """Of a training checkpoint of small_16k; the first copy also takes the memory."""
    with torch.device("meta"):
        shapes = [tensor.shape for tensor in build_network(VARIANT).state_dict().values()]
    live = [[torch.zeros(shape, device=device) for shape in shapes] for _ in range(COPIES_OF_WEIGHTS)]
    host, taken_s = HostCopies(), []
    for _ in range(REPEATS + 1):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        began = time.perf_counter()
        host.copy(live)
        taken_s.append(time.perf_counter() - began)
    size_gb = host.num_bytes / 1e9
    print(f"| a checkpoint of {VARIANT}, {size_gb:.2f} GB, {device.type} | s |\n|---|---|")
    print(f"| first copy | {taken_s[0]:.2f} |\n| copy into buffers that are there | {median(taken_s[1:]):.2f} |")
    print(f"| rate of that, GB/s | {size_gb / median(taken_s[1:]):.1f} |")
