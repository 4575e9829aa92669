"""How the processes of a run share its network: each has all of it (DDP), or each a share of every tensor (FSDP2).

With shares, a parameter is a DTensor. What is done to all elements alike (the optimizer's step, averages) is done by every
process to its own, the `local_tensor` of each; what leaves the process (files, previews) is made whole by `full_tensor` first.
"""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from mmaudio.distributed.ranks import Ranks


def wrapped_blocks(network: nn.Module) -> list[nn.Module]:
    """The blocks of a network, outermost first: what is compiled, and gathered from all processes, one at a time."""
    lists = [module for module in network.modules() if isinstance(module, nn.ModuleList)]
    inner = {id(child) for each in lists for block in each for child in block.modules() if isinstance(child, nn.ModuleList)}
    return [block for each in lists if id(each) not in inner for block in each]


def parallelize(
    objective: nn.Module, network: nn.Module, ranks: Ranks, device: torch.device, parallel: str, *, accumulates: bool
) -> nn.Module:
    """Collective. What is trained in place of `objective`: its gradients are averages over all ranks.

    Args:
        network: the part of `objective` that has the parameters, the same on all ranks.
        parallel: `ddp`, or `fsdp`, which changes the parameters of `network` to shares; a single process has nothing to share.
        accumulates: whether steps are of several backward passes; DDP can take a static graph for granted only where they are not.
    """
    if ranks.world_size == 1:
        return objective
    if parallel == "ddp":
        return DistributedDataParallel(objective, broadcast_buffers=False, gradient_as_bucket_view=True, static_graph=not accumulates)
    mesh = init_device_mesh(device.type, (ranks.world_size,))
    for unit in wrapped_blocks(network):
        fully_shard(unit, mesh=mesh)
    fully_shard(objective, mesh=mesh)
    return objective


def no_sync_until_last(module: nn.Module, *, is_last: bool) -> AbstractContextManager[Any]:
    """Around a forward and backward pass: only the last one of a step waits for the other ranks' gradients."""
    if isinstance(module, FSDPModule):
        module.set_requires_gradient_sync(is_last)
    if isinstance(module, DistributedDataParallel) and not is_last:
        return module.no_sync()
    return nullcontext()


def is_sharded(tensors: Sequence[Tensor]) -> bool:
    """Whether these are shares: every rank then has averages of its own, and takes part when they are written."""
    return any(isinstance(tensor, DTensor) for tensor in tensors)


def local_tensor(tensor: Tensor) -> Tensor:
    """This process's elements, without history: the tensor's own memory."""
    return (tensor.to_local() if isinstance(tensor, DTensor) else tensor).detach()


def local_part(tensor: Tensor, like: Tensor) -> Tensor:
    """This process's elements of a whole tensor that is laid out as `like`. No communication: every rank holds the whole."""
    if not isinstance(like, DTensor):
        return tensor
    return local_tensor(distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None))


def as_sharded(tensor: Tensor, like: Tensor) -> Tensor:
    """A tensor of this process's elements of `like`, such as its moments, as a share where `like` is one. No communication."""
    if not isinstance(like, DTensor):
        return tensor
    return DTensor.from_local(tensor, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride())


def full_tensor(tensor: Tensor) -> Tensor:
    """Collective for a share. All elements of a tensor."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def check_room(tensors: Iterable[Tensor], device: torch.device) -> None:
    """Take as much of the device's memory as the whole of these tensors needs, and give it back. Raises: torch.OutOfMemoryError."""
    torch.empty(sum(tensor.numel() * tensor.element_size() for tensor in tensors), dtype=torch.uint8, device=device)
