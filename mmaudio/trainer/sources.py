"""From the names of sources in the settings to open stores, and to what the network must know of the data."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from torch import Tensor

from mmaudio.base.errors import Problems, UserError
from mmaudio.base.null_text import read_null_text
from mmaudio.base.settings import BaseSettings
from mmaudio.base.sources import SourceSettings
from mmaudio.base.specs import AudioSpec
from mmaudio.batches import Mixture, Source


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


def null_text(sources: Sequence[Source], settings: BaseSettings) -> Tensor:
    """The text feature of the empty string, (77, 1024) float32: from a store, or from the published file (training.md section 6).

    Raises: UserError where neither has it.
    """
    for source in sources:
        feature = source.store.null_text()
        if feature is not None:
            return feature.float()
    published = Path(settings.empty_string_ckpt)
    if settings.backend == "pretrained" and published.is_file():
        return read_null_text(published)
    names = ", ".join(source.name for source in sources)
    known = f", and there is no {published} (`mmaudio weights fetch empty_string` gets it)" if settings.backend == "pretrained" else ""
    raise UserError(
        f"no store of data.train ({names}) holds the text feature of the empty string{known};"
        " extract one of them with this version, or start from weights=FILE"
    )
