"""Randomness as a function: the same numbers for the same (seed, stream, step, position), on any device, in any process.

Philox-4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") in plain int64 tensor arithmetic, so
it runs on CPU and GPU alike and no generator state is ever saved. One counter block gives four 32-bit words.
"""

import math
import zlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_MASK = 0xFFFFFFFF
_ROUNDS = 10


def _multiply(constant: int, word: Tensor) -> tuple[Tensor, Tensor]:
    """High and low 32 bits of constant · word. Bits above the 64th fall off, and none of those that are kept is among them."""
    low, high = constant * (word & 0xFFFF), constant * (word >> 16)
    total_high = (high + (low >> 16)) >> 16
    return total_high, ((high << 16) + low) & _MASK


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Philox-4x32-10 of four counter words (int64 tensors in [0, 2^32), broadcastable) under a 64-bit key."""
    c0, c1, c2, c3 = torch.broadcast_tensors(*counter)
    k0, k1 = key
    for _ in range(_ROUNDS):
        high0, low0 = _multiply(_MULTIPLIERS[0], c0)
        high1, low1 = _multiply(_MULTIPLIERS[1], c2)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return c0, c1, c2, c3


@dataclass(frozen=True)
class CounterRng:
    """Random numbers of one seed at one step, each a function of (seed, step, stream name, item).

    `items` names what the first axis stands for: positions in the global batch while training, row ids (hashed) while
    validating. Two streams, or two steps, share no number.
    """

    seed: int
    step: int
    items: Tensor  # (batch,) int64 in [0, 2^32)

    def to(self, device: torch.device) -> "CounterRng":
        """The same numbers, drawn on a device."""
        return CounterRng(self.seed, self.step, self.items.to(device, non_blocking=True))

    def _words(self, stream: str, num_blocks: int) -> Tensor:
        """(batch, num_blocks · 4) int64 words in [0, 2^32)."""
        device = self.items.device
        block = torch.arange(num_blocks, device=device)[None, :]
        item = self.items[:, None]
        step, name = (torch.full((1, 1), word, device=device) for word in (self.step & _MASK, zlib.crc32(stream.encode())))
        words = philox((block, item, step, name), (self.seed & _MASK, (self.seed >> 32) & _MASK))
        return torch.stack(words, dim=-1).flatten(1)

    def uniforms(self, stream: str, *shape: int) -> Tensor:
        """(batch, *shape) float32 in [0, 1): multiples of 2^-24, which float32 holds exactly."""
        count = math.prod(shape)
        words = self._words(stream, -(-count // 4))[:, :count]
        return ((words >> 8).to(torch.float32) * 2.0**-24).view(len(self.items), *shape)

    def normals(self, stream: str, *shape: int) -> Tensor:
        """(batch, *shape) float32 standard normals by Box and Muller (1958); |z| < 5.8."""
        count = math.prod(shape)
        words = self._words(stream, -(-count // 4)).view(len(self.items), -1, 2, 2)
        radius = torch.sqrt(-2.0 * torch.log(((words[..., 0] >> 8) + 1).to(torch.float32) * 2.0**-24))
        angle = (words[..., 1] >> 8).to(torch.float32) * (2.0 * math.pi * 2.0**-24)
        pairs = torch.stack((radius * torch.cos(angle), radius * torch.sin(angle)), dim=-1)
        return pairs.flatten(1)[:, :count].reshape(len(self.items), *shape)


def text_item(text: str) -> int:
    """The item number of a row id, so that its noise depends on the id and not on where the row stands."""
    return zlib.crc32(text.encode("utf-8", "surrogatepass"))


def permutation(num_items: int, seed: int, epoch: int) -> np.ndarray:
    """Order of an epoch: a permutation of range(num_items) that is a function of (seed, epoch)."""
    key = np.array([seed & (2**64 - 1), epoch], dtype=np.uint64)  # a list would pass through float64 and lose large seeds
    return np.random.Generator(np.random.Philox(key=key)).permutation(num_items)
