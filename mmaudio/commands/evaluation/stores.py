"""The stores of a run as sets to evaluate on: sampled from their features, scored against the real sounds of their rows."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from mmaudio.base.errors import UserError
from mmaudio.base.naming import named
from mmaudio.base.settings import BaseSettings
from mmaudio.base.sources import LISTS, SourceSettings
from mmaudio.batches import Mixture
from mmaudio.commands.evaluation.sets import EvalSet
from mmaudio.media.suffixes import SOUND_SUFFIXES, VIDEO_SUFFIXES, files_by_id


def sources_named(settings: BaseSettings, name: str) -> list[str]:
    """The sources of a run's data that a name means: those of a list (`test`), or one itself. Empty where it means none."""
    if name in LISTS:
        return list(getattr(settings.data, name))
    return [name] if name in settings.data.sources and settings.data.sources[name].memmap_dir else []


def tag_of(settings: BaseSettings, name: str) -> str:
    """What the results of these sources are called: the tag of the only one, or the name that chose them."""
    chosen = sources_named(settings, name)
    return (settings.data.sources[chosen[0]].tag if len(chosen) == 1 else None) or name


def store_set(settings: BaseSettings, name: str, rows: Mixture) -> EvalSet:
    """The rows of a run's sources, which are open already, each id once.

    Their media are those of the sources' `root`. Raises: UserError for an id that is there twice.
    """
    given = [settings.data.sources[source.name] for source in rows.sources]
    captions: dict[str, str] = {}
    for source in rows.sources:
        twice = sorted(captions.keys() & set(source.store.ids)) or _repeated(source.store.ids)
        if twice:
            raise UserError(f"{named(twice)} of {source.name} is there twice; samples are named by id, so a set has each id once")
        captions |= zip(source.store.ids, source.store.captions, strict=True)
    caches = [source.gt_cache for source in given if source.gt_cache]
    cache = Path(caches[0]) if len(given) == 1 and caches else None
    media = partial(_media, given, captions)
    return EvalSet(tag_of(settings, name), captions, media(VIDEO_SUFFIXES), media(SOUND_SUFFIXES), cache, rows=rows)


def _repeated(ids: Sequence[str]) -> list[str]:
    seen, twice = set[str](), set[str]()
    for each in ids:
        (twice if each in seen else seen).add(each)
    return sorted(twice)


def _media(given: Sequence[SourceSettings], captions: Mapping[str, str], suffixes: Sequence[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for root in _roots(given):
        found |= files_by_id(root, captions, suffixes)
    return found


def _roots(given: Sequence[SourceSettings]) -> Iterator[Path]:
    yield from dict.fromkeys(Path(source.root) for source in given if source.root)
