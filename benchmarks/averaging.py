"""Cost of following the weights with two averages: multi-tensor operations beside a loop over parameters."""

import time
from collections.abc import Callable, Mapping
from statistics import median

import torch
from torch import Tensor

from mmaudio.checkpoints.posthoc_ema import decay, gamma_of
from mmaudio.network import build_network
from mmaudio.trainer.ema import PowerAverages

SIGMAS = (0.05, 0.1)
VARIANT = "small_16k"
REPEATS = 7


def _state(device: torch.device, *, one_value_each: bool) -> dict[str, Tensor]:
    """Tensors as a network's state dict has them, or as many of one value each, whose update costs the host alone."""
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in build_network(VARIANT).state_dict().items()}
    return {name: torch.zeros((1,) if one_value_each else shape, device=device) for name, shape in shapes.items()}


class _Loop:
    """The same averages, one parameter after another."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        self.live, self.n, self.gammas = state, 0, [gamma_of(sigma) for sigma in SIGMAS]
        self.averages = [{name: tensor.clone() for name, tensor in state.items()} for _ in SIGMAS]

    def follow(self) -> None:
        self.n += 1
        for gamma, average in zip(self.gammas, self.averages, strict=True):
            weight = 1.0 - decay(self.n, gamma)
            for name, tensor in self.live.items():
                average[name].lerp_(tensor, weight)


def _milliseconds(call: Callable[[], None], device: torch.device) -> tuple[float, float]:
    """Median time until the call returns, and until the device is done, after two calls that do not count."""
    returned, done = [], []
    for _ in range(REPEATS + 2):
        began = time.perf_counter()
        call()
        returned.append(1e3 * (time.perf_counter() - began))
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        done.append(1e3 * (time.perf_counter() - began))
    return median(returned[2:]), median(done[2:])


def print_table(device: torch.device) -> None:
    """One update of both averages."""
    print(f"following the weights of {VARIANT} with {len(SIGMAS)} averages, {device.type}: ms for an update\n")
    print("| tensors | how | host | until done |\n|---|---|---|---|")
    for one_value_each in (True, False):
        state = _state(device, one_value_each=one_value_each)
        told = (
            f"{len(state)} of one value" if one_value_each else f"{len(state)}, {sum(map(Tensor.numel, state.values())) / 1e6:.0f} M values"
        )
        for name, averages in (("multi-tensor", PowerAverages(state, SIGMAS)), ("loop", _Loop(state))):
            host_ms, done_ms = _milliseconds(averages.follow, device)
            print(f"| {told} | {name} | {host_ms:.2f} | {done_ms:.2f} |")
    print()
