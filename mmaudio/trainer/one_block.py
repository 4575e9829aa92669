"""All parameters of a network in one block of memory, so that what is done to every element alike is one operation."""

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor, nn

ALIGNED_TO = 64  # values between which parameters begin, as kernels like it


@torch.no_grad()
def gather_(network: nn.Module) -> None:
    """Move a network's float32 parameters into one block, in order. Their values, and the parameters themselves, stay."""
    parameters = [parameter for parameter in network.parameters() if parameter.dtype == torch.float32]
    if not parameters:
        return
    sizes = [-(-parameter.numel() // ALIGNED_TO) * ALIGNED_TO for parameter in parameters]
    block = torch.zeros(sum(sizes), device=parameters[0].device)
    for parameter, start in zip(parameters, accumulate(sizes, initial=0), strict=False):
        place = block[start : start + parameter.numel()].view(parameter.shape)
        place.copy_(parameter)
        parameter.data = place


def block_of(tensors: Sequence[Tensor]) -> Tensor | None:
    """The block that `gather_` put all of these tensors into; None where they have no block in common."""
    memory = {tensor.untyped_storage().data_ptr() for tensor in tensors}
    if len(memory) != 1 or len(tensors) < 2 or any(tensor.dtype != torch.float32 or not tensor.is_contiguous() for tensor in tensors):
        return None
    storage = tensors[0].untyped_storage()
    return torch.empty(0, device=tensors[0].device).set_(storage, 0, (storage.nbytes() // torch.float32.itemsize,), (1,))


def places_in(block: Tensor, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Views of another block where these tensors lie in theirs."""
    return [block[start : start + tensor.numel()].view(tensor.shape) for tensor in tensors for start in (tensor.storage_offset(),)]
