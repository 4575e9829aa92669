"""What a training step costs, counted without computing it, and what a device can do.

Counted are operations, and bytes of the state and of what backward keeps; measured is the rate of a large matrix product.
"""

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from mmaudio.base.specs import CLIP_WIDTH, DEFAULT_DURATION_S, SYNC_WIDTH, TEXT_WIDTH
from mmaudio.network import FlowTransformer, build_network
from mmaudio.trainer.model_settings import freeze_

FLOAT_BYTES = torch.float32.itemsize
_META = torch.device("meta")


def flops_per_row(variant: str, duration_s: float = DEFAULT_DURATION_S, *, freeze: Sequence[str] = ()) -> int:
    """FLOP of one row that has all conditions, forward and backward, without the optimizer. Takes a second or two.

    Rows without video cost a little less: a null is projected once a batch (docs/performance.md).
    """
    network = _new_network(variant, duration_s, freeze, _META)
    return count_flops(lambda: _velocity(network, 1, _META).sum())


def count_flops(compute: Callable[[], Tensor]) -> int:
    """FLOP of a computation and of the gradients of the scalar it gives, by torch's counter; a multiply-add counts two."""
    with FlopCounterMode(display=False) as counter:
        compute().backward()
    return int(counter.get_total_flops())


@dataclass(frozen=True)
class StateBytes:
    """Bytes a process keeps all the time: float32 weights, their gradients, AdamW's two moments, and averages."""

    parameters: int
    gradients: int
    moments: int
    averages: int

    @property
    def total(self) -> int:
        return self.parameters + self.gradients + self.moments + self.averages


def state_bytes(
    variant: str, *, num_averages: int, parallel: str = "ddp", num_processes: int = 1, freeze: Sequence[str] = ()
) -> StateBytes:
    """What the process that keeps most keeps: under `ddp` everything (the others have no averages), under `fsdp` its share.

    Under fsdp the block at work is gathered whole for a moment, which is not counted. Raises: ValueError for another `parallel`.
    """
    if parallel not in ("ddp", "fsdp"):
        raise ValueError(f"parallel is {parallel!r}; want ddp or fsdp")
    network = _new_network(variant, DEFAULT_DURATION_S, freeze, _META)
    share = num_processes if parallel == "fsdp" else 1
    whole = FLOAT_BYTES * sum(tensor.numel() for tensor in network.state_dict().values())
    trained = FLOAT_BYTES * sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    return StateBytes(*(-(-count // share) for count in (whole, trained, 2 * trained, num_averages * whole)))


@dataclass(frozen=True)
class ActivationBytes:
    """Bytes that the backward pass needs of the forward pass: so many for any batch, and so many for each row in it."""

    fixed: int
    per_row: int

    def of(self, num_rows: int) -> int:
        """Of so many rows at once."""
        return self.fixed + num_rows * self.per_row


def activation_bytes(
    variant: str, duration_s: float = DEFAULT_DURATION_S, *, amp: bool = False, freeze: Sequence[str] = ()
) -> ActivationBytes:
    """An estimate: the storages that autograd saves in an eager step whose rows have all conditions. Takes a few seconds.

    The peak of a step on a CPU was 2 to 8 % above it (tiny_16k and small_16k, float32 and bf16; 23 % where the C library
    held on to freed memory). Not measured on CUDA, where eager bf16 should take about an eighth more, since layer norms
    run in float32 there, and compiled steps less. CUDA's own memory and workspaces are not in it.
    """
    device = torch.device("cpu")
    with FakeTensorMode(), warnings.catch_warnings():  # fake tensors, unlike meta ones, know autocast
        warnings.filterwarnings("ignore", "Mismatch dtype between input and weight")  # of head norms, on a CPU in bf16 alone
        network = _new_network(variant, duration_s, freeze, device)
        one, two = (_saved_bytes(network, num_rows, amp, device) for num_rows in (1, 2))
    return ActivationBytes(fixed=max(0, 2 * one - two), per_row=two - one)


def _saved_bytes(network: FlowTransformer, num_rows: int, amp: bool, device: torch.device) -> int:
    """Bytes of the distinct storages that a forward pass saves, weights aside."""
    saved: dict[int, Tensor] = {}  # kept, so that no address is used twice

    def note(tensor: Tensor) -> Tensor:
        saved.setdefault(tensor.untyped_storage()._cdata, tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor), torch.autocast("cpu", torch.bfloat16, enabled=amp):
        _velocity(network, num_rows, device)
    own = {tensor.untyped_storage()._cdata for tensor in (*network.parameters(), *network.buffers())}
    return sum(tensor.untyped_storage().nbytes() for storage, tensor in saved.items() if storage not in own)


def _new_network(variant: str, duration_s: float, freeze: Sequence[str], device: torch.device) -> FlowTransformer:
    with device:
        network = build_network(variant, duration_s=duration_s)
    freeze_(network, freeze)
    return network


def _velocity(network: FlowTransformer, num_rows: int, device: torch.device) -> Tensor:
    """Of rows that have all conditions, the dearest ones there are."""
    conditions = (
        torch.empty(num_rows, network.clip_seq_len, CLIP_WIDTH, device=device),
        torch.empty(num_rows, network.sync_seq_len, SYNC_WIDTH, device=device),
        torch.empty(num_rows, network.text_seq_len, TEXT_WIDTH, device=device),
    )
    latent = torch.empty(num_rows, network.latent_seq_len, network.latent_mean.shape[-1], device=device)
    velocity: Tensor = network(latent, *conditions, torch.empty(num_rows, device=device))
    return velocity


# ---- What a device can do, measured: the rate of a large matrix product

MATMUL_SIDE = {"cpu": 1024, "cuda": 8192}
RATE_S = 0.2  # how long products are timed


@dataclass(frozen=True)
class MatrixProduct:
    """A large matrix product: its rate is what the work of others is compared with."""

    a: Tensor
    b: Tensor

    @classmethod
    def on(cls, device: torch.device, dtype: torch.dtype) -> "MatrixProduct":
        side = MATMUL_SIDE[device.type]
        return cls(torch.randn(side, side, device=device, dtype=dtype), torch.randn(side, side, device=device, dtype=dtype))

    def __call__(self) -> Tensor:
        return self.a @ self.b

    @property
    def flops(self) -> int:
        return 2 * len(self.a) ** 3


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of a large matrix product: the fastest of those that fit in a fifth of a second, and of three at least."""
    product, spent_s = MatrixProduct.on(device, dtype), list[float]()
    product()  # chooses kernels, takes memory
    while len(spent_s) < 3 or sum(spent_s) < RATE_S:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        began = time.perf_counter()
        product()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        spent_s.append(time.perf_counter() - began)
    return product.flops / min(spent_s)
