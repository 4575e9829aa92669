"""Running averages (EMA) of a network, what a checkpoint holds of them, and the one block that its parameters lie in."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn

from mmaudio.checkpoints.ema_snapshots import average_entries, read_average
from mmaudio.checkpoints.posthoc_ema import decay, gamma_of
from mmaudio.trainer.parallel import as_sharded, local_part, local_tensor

_MODELS = "ema_models"  # what the published layout calls the averages of a checkpoint


class PowerAverages:
    """Power-function averages (training.md section 8) of everything a network's state dict holds, in float32.

    Of a shared network every rank averages its own elements, and takes part where the whole is asked for.

    Args:
        state: the network's state dict; its tensors are read at every `follow`, so they must be the live ones.
        sigma_rels: relative width of each average.
        update_every: calls of `follow` per update.
    """

    def __init__(self, state: Mapping[str, Tensor], sigma_rels: Sequence[float], update_every: int = 1) -> None:
        self._state = dict(state)
        live = [local_tensor(tensor) for tensor in state.values()]
        block = flat_view(live)
        self.gammas = [gamma_of(sigma) for sigma in sigma_rels]
        self.update_every = update_every
        self.updates_done = 0
        self.has_begun = False
        self._live = live if block is None else [block]  # what is followed: the tensors, or the one block they lie in
        self._are_float32 = all(tensor.dtype == torch.float32 for tensor in self._live)
        self._followers = [[tensor.float().clone() for tensor in self._live] for _ in sigma_rels]
        self._tensors = self._followers if block is None else [views_in(follower, live) for (follower,) in self._followers]

    @property
    def averages(self) -> list[dict[str, Tensor]]:
        """Name → tensor of each average, as shares where the network is shared; the live tensors themselves."""
        return [
            {name: as_sharded(tensor, like) for (name, like), tensor in zip(self._state.items(), tensors, strict=True)}
            for tensors in self._tensors
        ]

    @torch.no_grad()
    def follow(self) -> None:
        """Take the live tensors' present values into every average; called once per iteration, after the optimizer step."""
        calls_before, self.updates_done = self.updates_done, self.updates_done + 1
        if calls_before % self.update_every:
            return
        live = self._live if self._are_float32 else [tensor.float() for tensor in self._live]
        for gamma, followers in zip(self.gammas, self._followers, strict=True):
            if not self.has_begun:
                torch._foreach_copy_(followers, live)
            torch._foreach_lerp_(followers, live, 1.0 - decay(self.updates_done, gamma, self.update_every))
        self.has_begun = True

    def state_dict(self) -> dict[str, Any]:
        """All averages in the published layout of a training checkpoint's `ema` entry; the live tensors themselves."""
        return dict(self._entries())

    def _entries(self) -> Iterator[tuple[str, Any]]:
        for index, average in enumerate(self.averages):
            for name, value in average_entries(average, self.updates_done, self.has_begun).items():
                yield f"{_MODELS}.{index}.{name}", value

    @torch.no_grad()
    def load_state_dict(self, entries: Mapping[str, Any]) -> None:
        """Continue from an `ema` entry. Raises: ValueError for another number of averages or other tensors."""
        if count_averages(entries) != len(self._tensors):
            raise ValueError(f"the checkpoint holds {count_averages(entries)} averages; these settings want {len(self._tensors)}")
        for index, tensors in enumerate(self._tensors):
            saved, self.updates_done, self.has_begun = read_average(_own(entries, index))
            if saved.keys() != self._state.keys():
                differing = sorted(saved.keys() ^ self._state.keys())
                raise ValueError(f"average {index} of the checkpoint differs in {', '.join(differing[:3])} ({len(differing)} in all)")
            for (name, like), tensor in zip(self._state.items(), tensors, strict=True):
                tensor.copy_(local_part(saved[name], like))


# ---- What the `ema` entry of a checkpoint holds


def count_averages(entries: Mapping[str, Any]) -> int:
    """How many averages an `ema` entry holds."""
    return len({name.split(".")[1] for name in entries if name.startswith(f"{_MODELS}.")})


def averaged_names(entries: Mapping[str, Any]) -> list[set[str]]:
    """The names of the tensors that each average of an `ema` entry holds."""
    return [set(read_average(_own(entries, index))[0]) for index in range(count_averages(entries))]


def updates_of(entries: Mapping[str, Any] | None) -> int:
    """How many updates the averages of an `ema` entry stand for."""
    return read_average(_own(entries, 0))[1] if entries else 0


def _own(entries: Mapping[str, Any], index: int) -> dict[str, Any]:
    prefix = f"{_MODELS}.{index}."
    return {name.removeprefix(prefix): value for name, value in entries.items() if name.startswith(prefix)}


def snapshot_bytes(state: Mapping[str, Tensor], sigma_rels: Sequence[float]) -> int:
    """Bytes of the tensors of one snapshot of each average."""
    return len(sigma_rels) * sum(tensor.numel() for tensor in state.values()) * torch.float32.itemsize


# ---- All parameters of a network in one block of memory, so that what is done to every element alike is one operation

ALIGNED_TO = 64  # values between which parameters begin, as kernels like it


@torch.no_grad()
def flatten_parameters_(network: nn.Module) -> None:
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


def flat_view(tensors: Sequence[Tensor]) -> Tensor | None:
    """The block that `flatten_parameters_` put all of these tensors into; None where they have no block in common."""
    memory = {tensor.untyped_storage().data_ptr() for tensor in tensors}
    if len(memory) != 1 or len(tensors) < 2 or any(tensor.dtype != torch.float32 or not tensor.is_contiguous() for tensor in tensors):
        return None
    storage = tensors[0].untyped_storage()
    return torch.empty(0, device=tensors[0].device).set_(storage, 0, (storage.nbytes() // torch.float32.itemsize,), (1,))


def views_in(block: Tensor, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Views of another block where these tensors lie in theirs."""
    return [block[start : start + tensor.numel()].view(tensor.shape) for tensor in tensors for start in (tensor.storage_offset(),)]
