"""LAION-CLAP's vector of a caption, to be compared with that of a sound (Wu et al. 2023, 2211.06687)."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmaudio.base.errors import UserError
from mmaudio.metrics.judges.clap_layout import NUM_TOKENS, TEXT, load_branch, read_published
from mmaudio.weights import CATALOGUE, locate

CONTEXT_TOKENS = 77  # start and end among them; a longer caption is cut, as published


class ClapText:
    """Captions to unit vectors."""

    def __init__(self, network: nn.Module, tokenizer: Any, device: torch.device) -> None:
        self.network, self.tokenizer, self.device = network.to(device), tokenizer, device

    def __call__(self, captions: Sequence[str]) -> dict[str, Tensor]:
        """n captions → (n, 512) of length 1."""
        tokens = self.tokenizer(list(captions), padding="max_length", truncation=True, max_length=CONTEXT_TOKENS, return_tensors="pt").to(
            self.device
        )
        embeddings = self.network(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).text_embeds
        return {"clap_laion_text": F.normalize(embeddings, dim=-1)}


def read_tokenizer(folder: Path) -> Any:
    """RoBERTa's byte-pair tokenizer of the `vocab.json` and `merges.txt` in a folder. Raises: UserError for files of another one."""
    from transformers import RobertaTokenizer

    vocabulary, merges = (folder / file for file in CATALOGUE["roberta_tokenizer"].files)
    try:
        numbers = json.loads(vocabulary.read_text(encoding="utf-8"))
        pairs = [tuple(line.split(" ")) for line in merges.read_text(encoding="utf-8").split("\n")[1:] if line]
        fits = len(numbers) == NUM_TOKENS and [numbers[name] for name in ("<s>", "<pad>", "</s>", "<unk>")] == [0, 1, 2, 3]
        if fits and all(len(pair) == 2 for pair in pairs):
            return RobertaTokenizer(vocab=numbers, merges=pairs, model_max_length=CONTEXT_TOKENS)
    except OSError as error:
        raise UserError(
            f"{error.filename} cannot be read: {error.strerror}; name a folder with {vocabulary.name} and {merges.name}"
        ) from None
    except (ValueError, KeyError, TypeError):
        pass
    raise UserError(f"{folder} holds no tokenizer of RoBERTa with {NUM_TOKENS} tokens; fetch it: `mmaudio weights fetch roberta_tokenizer`")


def read(caption: str, duration_s: float) -> str:  # noqa: ARG001 - a caption lasts no time
    """A caption, as it is."""
    return caption


def load(places: Mapping[str, str | Path], device: torch.device) -> ClapText:
    """The text branch on a device. Raises: UserError for weights that are missing, torn or of another network."""
    path, folder = (locate(name, places.get(name)) for name in ("clap_laion", "roberta_tokenizer"))
    return ClapText(load_branch(read_published(path), TEXT), read_tokenizer(folder), device)
