"""Floating-point types, by the words that command lines and backends have for them."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}  # word → torch's name


def torch_dtype(word: str) -> "torch.dtype":
    """The type of a word of DTYPES."""
    import torch  # the help of commands lists the words, and comes without it

    dtype: torch.dtype = getattr(torch, DTYPES[word])
    return dtype
