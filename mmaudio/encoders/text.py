"""Captions to tokens and, in the `lite` backend, to features: CLIP's tokenizer and a fixed random vector per token."""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from mmaudio.base.specs import TEXT_TOKENS, TEXT_WIDTH

_TABLE_KEY = 0x7E47  # of the token vectors; changing it changes every lite feature


@lru_cache(maxsize=1)
def _tokenizer():  # type: ignore[no-untyped-def]  # open_clip is imported only when a caption is tokenised: it takes seconds
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer()


def tokenize(captions: list[str]) -> Tensor:
    """CLIP's byte-pair tokens: (captions, 77) int64; start, tokens, end, zeros; a longer caption is cut before its end token."""
    return _tokenizer()(captions, context_length=TEXT_TOKENS)


@lru_cache(maxsize=65_536)
def _token_vector(token: int) -> Tensor:
    generator = np.random.Generator(np.random.Philox(key=[_TABLE_KEY, token]))
    return torch.from_numpy(generator.standard_normal(TEXT_WIDTH, dtype=np.float32))


class LiteText:
    """Captions to (captions, 77, 1024) float32: each place holds its token's vector plus the mean of those up to it.

    Places after the end hold the mean of the whole caption, as the last places of a causal text encoder do. Every
    vector has unit mean square.
    """

    def __call__(self, captions: list[str]) -> Tensor:
        return torch.stack([self._encode(row) for row in tokenize(captions).tolist()])

    def _encode(self, tokens: list[int]) -> Tensor:
        length = tokens.index(max(tokens)) + 1  # the end token has the largest number
        own_lw = torch.zeros(TEXT_TOKENS, TEXT_WIDTH)
        own_lw[:length] = torch.stack([_token_vector(token) for token in tokens[:length]])
        seen_l1 = torch.arange(1, TEXT_TOKENS + 1).clamp_max(length)[:, None]
        together_lw = own_lw + own_lw.cumsum(dim=0) / seen_l1
        return together_lw / together_lw.square().mean(dim=-1, keepdim=True).sqrt()
