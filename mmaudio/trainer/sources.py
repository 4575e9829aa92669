"""From the names of sources in the settings to open stores, and to what the network must know of the data."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from mmaudio.base.errors import Problems, UserError
from mmaudio.base.settings import BaseSettings
from mmaudio.base.sources import SourceSettings
from mmaudio.base.specs import AudioSpec
from mmaudio.batches import Mixture, Source

PUBLISHED_NULL_TEXT = Path("ext_weights/empty_string.pth")  # the pretrained text encoder's output for ""


def open_sources(settings: BaseSettings, names: Sequence[str], problems: Problems, *, repeats: bool = False) -> list[Source]:
    """The stores of these sources, in order. What cannot be opened goes to `problems` and is left out.

    Args:
        repeats: whether a source's `repeat` counts, as it does in training; else every row is there once.
    """
    opened = (problems.check(partial(_open, name, settings.data.sources[name], repeats)) for name in names)
    return [source for source in opened if source is not None]


def _open(name: str, given: SourceSettings, repeats: bool) -> Source:
    repeat = given.repeat if repeats else 1
    return Source.open(name, Path(str(given.tsv)), Path(str(given.memmap_dir)), kind=given.kind, repeat=repeat)


def open_mixture(settings: BaseSettings, names: Sequence[str], spec: AudioSpec, *, repeats: bool = False) -> Mixture:
    """The rows of these sources, one after another, each once, or with `repeats` as often as training counts it.

    Raises: UserError for stores that cannot be opened.
    """
    problems = Problems()
    sources = open_sources(settings, names, problems, repeats=repeats)
    problems.raise_any()
    return Mixture(sources, spec)


def null_text(sources: Sequence[Source], backend: str) -> Tensor:
    """The text feature of the empty string, (77, 1024) float32: from a store, or from the published file.

    Raises: UserError where neither has it.
    """
    for source in sources:
        feature = source.store.null_text()
        if feature is not None:
            return feature.float()
    if backend == "pretrained" and PUBLISHED_NULL_TEXT.is_file():
        return torch.load(PUBLISHED_NULL_TEXT, map_location="cpu", weights_only=True)[0].float()
    names = ", ".join(source.name for source in sources)
    known = f", and there is no {PUBLISHED_NULL_TEXT}" if backend == "pretrained" else ""
    raise UserError(
        f"no store of data.train ({names}) holds the text feature of the empty string{known};"
        " extract one of them with --layout compact, or start from weights=FILE"
    )
