"""Cost of following the weights with two averages: multi-tensor operations beside a loop over parameters."""

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median

import torch
from torch import Tensor

from mmaudio.checkpoints.posthoc_ema import decay, gamma_of
from mmaudio.network import build_network
from mmaudio.trainer.ema_averages import PowerAverages, flatten_parameters_

SIGMAS = (0.05, 0.1)
VARIANT = "small_16k"
REPEATS = 7


def _state(device: torch.device, *, one_value_each: bool, in_one_block: bool) -> dict[str, Tensor]:
    """Tensors as a network's state dict has them, or as many of one value each, whose update costs the host alone.

    Args:
        in_one_block: as training has them.
    """
    with torch.device("meta"):
        shapes = [tensor.shape for tensor in build_network(VARIANT).state_dict().values()]
    module = torch.nn.ParameterList([torch.zeros((1,) if one_value_each else shape, device=device) for shape in shapes])
    if in_one_block:
        flatten_parameters_(module)
    return module.state_dict()


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


class _Passes:
    """As many bytes moved as following must: of each average, read the weights, read it, write it."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        num_values, device = sum(map(Tensor.numel, state.values())), next(iter(state.values())).device
        self._from, self._to = (torch.zeros(num_values, device=device) for _ in range(2))

    def follow(self) -> None:
        for _ in range(3 * len(SIGMAS) // 2):  # a copy is two passes
            self._to.copy_(self._from)


def _milliseconds(calls: Sequence[Callable[[], None]], device: torch.device) -> list[tuple[float, float]]:
    """Of each call, in turns: median time until it returns, and until the device is done, after two calls that do not count."""
    times: list[list[tuple[float, float]]] = [[] for _ in calls]
    for _ in range(REPEATS + 2):
        for call, taken in zip(calls, times, strict=True):
            began = time.perf_counter()
            call()
            returned = time.perf_counter()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            taken.append((1e3 * (returned - began), 1e3 * (time.perf_counter() - began)))
    return [(median(first for first, _ in taken[2:]), median(second for _, second in taken[2:])) for taken in times]


def print_table(device: torch.device) -> None:
    """One update of both averages."""
    print(f"following the weights of {VARIANT} with {len(SIGMAS)} averages, {device.type}: ms for an update\n")
    print("| tensors | how | host | until done | until done, against the copies |\n|---|---|---|---|---|")
    for one_value_each in (True, False):
        state, block = (_state(device, one_value_each=one_value_each, in_one_block=each) for each in (False, True))
        told = (
            f"{len(state)} of one value" if one_value_each else f"{len(state)}, {sum(map(Tensor.numel, state.values())) / 1e6:.0f} M values"
        )
        averages = {"in one block": PowerAverages(block, SIGMAS), "multi-tensor": PowerAverages(state, SIGMAS)}
        ways: dict[str, PowerAverages | _Loop | _Passes] = {**averages, "loop": _Loop(state), "copies of as many bytes": _Passes(state)}
        measured = _milliseconds([way.follow for way in ways.values()], device)
        for name, (host_ms, done_ms) in zip(ways, measured, strict=True):
            print(f"| {told} | {name} | {host_ms:.2f} | {done_ms:.2f} | {done_ms / measured[-1][1]:.2f} |")
    print()
