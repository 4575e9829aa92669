"""Words such as `sync_features=fp32`: which dtype a column of a store in the compact layout is to have."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mmaudio.base.dtypes import DTYPES, torch_dtype
from mmaudio.base.errors import UserError, nearest

if TYPE_CHECKING:
    import torch

COLUMN_DTYPE = "COLUMN=DTYPE"


def read_column_dtypes(option: str, words: Sequence[str], layout: str) -> "dict[str, torch.dtype]":
    """Column → dtype. Raises: UserError with a sentence for every word that names none, and for a layout without a choice."""
    from mmaudio.store.schema import CHOSEN_DTYPES

    wrong = []
    for word in words:
        column, _, dtype = word.partition("=")
        if column not in CHOSEN_DTYPES:
            wrong.append(f"{option} {word}: no column {column!r}{nearest(column, CHOSEN_DTYPES)}; known are {', '.join(CHOSEN_DTYPES)}")
        elif dtype not in DTYPES:
            wrong.append(f"{option} {word}: no dtype {dtype!r}{nearest(dtype, DTYPES)}; known are {', '.join(DTYPES)}")
    if words and layout != "compact":
        wrong.append(f"{option} is for the compact layout; the published one is float32 throughout")
    if wrong:
        raise UserError(*wrong)
    return {column: torch_dtype(dtype) for column, _, dtype in (word.partition("=") for word in words)}
