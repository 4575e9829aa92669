"""Which rows have one caption, and whether these have one text feature."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from mmaudio.store.columns import carried
from mmaudio.store.compare import relative_error

# One caption encoded in batches of other sizes: the same on a CPU; GPUs that round to TF32 are allowed a few of its steps, 2⁻¹¹.
# Other captions are 0.2 and more apart (CLIP's full-size text tower with random weights; lite: 0.57).
SAME_TEXT = 3e-3


@dataclass(frozen=True)
class Clash:
    """Two rows of which one thing is equal and the other should be, and is not."""

    row: int
    first: int


class TextsOfCaptions:
    """Holds rows that come in order to one text feature a caption; keeps a digest and a place of each caption, no features."""

    def __init__(self, captions: Sequence[str], read_text: Callable[[int], Tensor]) -> None:
        """`captions` of all rows; `read_text` gives the feature of a row seen before, (tokens, width)."""
        self._captions, self._read = captions, read_text
        self._first: dict[str, tuple[int, bytes]] = {}

    def clash(self, row: int, text: Tensor) -> Clash | None:
        """The first row with the caption of this one and another feature; None where there is none, or this is the first."""
        digest = hashlib.blake2b(carried(text.contiguous()).data, digest_size=16).digest()
        first, wanted = self._first.setdefault(self._captions[row], (row, digest))
        if digest == wanted or relative_error(text, self._read(first)) <= SAME_TEXT:
            return None
        return Clash(row, first)


def clashing_places(captions: Sequence[str], text_rows: np.ndarray) -> tuple[list[Clash], list[Clash]]:
    """Rows with the caption of an earlier row and another text feature, and rows with its text feature and another caption."""
    of_caption: dict[str, int] = {}
    of_text: dict[int, int] = {}
    other_texts: list[Clash] = []
    other_captions: list[Clash] = []
    for row, (caption, text) in enumerate(zip(captions, text_rows.tolist(), strict=True)):
        first = of_caption.setdefault(caption, row)
        if text_rows[first] != text:
            other_texts.append(Clash(row, first))
        first = of_text.setdefault(text, row)
        if captions[first] != caption:
            other_captions.append(Clash(row, first))
    return other_texts, other_captions
