"""Values too small to cost memory and too delicate to be rounded: float32 in a network of any other type."""

from collections.abc import Callable
from typing import Self

from torch import Tensor, nn


class Float32Values(nn.Module):
    """A module whose own parameters and buffers, not its children's, stay float32 when the network around it is cast."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        if recurse:
            for child in self.children():
                child._apply(fn)
        return super()._apply(lambda values: values.to(fn(values).device), recurse=False)
