"""The convolutions over tokens, which are three quarters of the network's work, against the same as matrix products.

Axes: b batch, n token, c input channel, o output channel, k kernel.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.rates import NAMES, bench_device, precisions, seconds_of
from mmaudio.base.specs import AudioSpec
from mmaudio.trainer.costs import MatrixProduct

Call = Callable[[], object]
BATCH = {"cpu": 2, "cuda": 64}
NUM_TOKENS = AudioSpec("44k").num_latents


@dataclass(frozen=True)
class Shape:
    """One convolution without bias; the token count stays."""

    kernel: int
    in_channels: int
    out_channels: int

    @property
    def flops_per_token(self) -> int:
        return 2 * self.kernel * self.in_channels * self.out_channels


# Hidden widths of small and large, and what their gated MLPs widen them to, where most of the work is.
SHAPES = (
    *(Shape(kernel, width, width) for width in (448, 896) for kernel in (3, 7)),
    *(Shape(3, width, inner) for width, inner in ((448, 1280), (896, 2560))),
)


def conv1d(x_bnc: Tensor, weight_ock: Tensor) -> Tensor:
    """As the network does it."""
    return F.conv1d(x_bnc.transpose(1, 2), weight_ock, padding="same").transpose(1, 2)


def conv2d(x_bnc: Tensor, weight_ock: Tensor) -> Tensor:
    """A picture one pixel high, and input and weights both with the channels innermost."""
    weight_ockk = weight_ock[:, :, None].contiguous(memory_format=torch.channels_last)
    padding = (0, weight_ock.shape[-1] // 2)
    return F.conv2d(x_bnc.transpose(1, 2)[:, :, None], weight_ockk, padding=padding)[:, :, 0].transpose(1, 2)


def _padded(x_bnc: Tensor, kernel: int) -> Tensor:
    return F.pad(x_bnc, (0, 0, kernel // 2, kernel // 2))


def unfolded(x_bnc: Tensor, weight_ock: Tensor) -> Tensor:
    """One product with every token's neighbourhood written out."""
    kernel = weight_ock.shape[-1]
    neighbours_bnkc = _padded(x_bnc, kernel).unfold(1, kernel, 1).transpose(2, 3)
    return F.linear(neighbours_bnkc.flatten(2), weight_ock.transpose(1, 2).flatten(1))


def shifted(x_bnc: Tensor, weight_ock: Tensor) -> Tensor:
    """The sum of one product for each place of the kernel."""
    num_tokens, kernel = x_bnc.shape[1], weight_ock.shape[-1]
    padded_bmc = _padded(x_bnc, kernel)
    return reduce(torch.add, (F.linear(padded_bmc[:, k : k + num_tokens], weight_ock[:, :, k]) for k in range(kernel)))


@dataclass(frozen=True)
class Way:
    """How a convolution is computed, and whether its input lies in memory with the tokens innermost."""

    compute: Callable[[Tensor, Tensor], Tensor]
    tokens_innermost: bool = False


WAYS = {
    "conv1d (the network's way)": Way(conv1d),
    "conv1d, tokens innermost": Way(conv1d, tokens_innermost=True),
    "conv2d, channels innermost": Way(conv2d),
    "unfold, one product": Way(unfolded),
    "k shifted products": Way(shifted),
}


def calls_of(shape: Shape, way: Way, num_rows: int, num_tokens: int, device: torch.device, dtype: torch.dtype) -> list[Call]:
    """One shape computed one way: its forward pass, and that with the backward pass to input and weights."""
    x_bnc = torch.randn(num_rows, num_tokens, shape.in_channels, device=device, dtype=dtype)
    if way.tokens_innermost:
        x_bnc = x_bnc.transpose(1, 2).contiguous().transpose(1, 2)
    weight_ock = torch.randn(shape.out_channels, shape.in_channels, shape.kernel, device=device, dtype=dtype)
    arguments = x_bnc.requires_grad_(), weight_ock.requires_grad_()
    grad_bno = torch.randn(num_rows, num_tokens, shape.out_channels, device=device, dtype=dtype)
    return [lambda: way.compute(*arguments), lambda: torch.autograd.grad(way.compute(*arguments), arguments, grad_bno)]


def print_rows(shapes: Sequence[Shape], num_rows: int, num_tokens: int, device: torch.device, dtype: torch.dtype) -> None:
    """A row for each shape and pass, a column for each way."""
    product = MatrixProduct.on(device, dtype)
    print(f"{NAMES[dtype]}, {num_rows} × {num_tokens} tokens: share of the rate of a large matrix product (ms)\n")
    print(f"| kernel | channels | pass | {' | '.join(WAYS)} |\n|{'---|' * (3 + len(WAYS))}")
    for shape in shapes:
        calls = [call for way in WAYS.values() for call in calls_of(shape, way, num_rows, num_tokens, device, dtype)]
        product_s, *spent_s = seconds_of([product, *calls], device)
        rate, forward_flops = product.flops / product_s, num_rows * num_tokens * shape.flops_per_token
        for name, flops, times in (("forward", forward_flops, spent_s[::2]), ("forward + backward", 3 * forward_flops, spent_s[1::2])):
            cells = " | ".join(f"{flops / time_s / rate:.0%} ({time_s * 1e3:.3g})" for time_s in times)
            print(f"| {shape.kernel} | {shape.in_channels} → {shape.out_channels} | {name} | {cells} |", flush=True)


def print_table() -> None:
    """In bf16 where the device has units for it: the precision its training runs in."""
    device = bench_device()
    print_rows(SHAPES, BATCH[device.type], NUM_TOKENS, device, precisions(device)[-1])
