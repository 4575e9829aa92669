"""What a pretrained backend loads, and what of it is not here."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from mmaudio.base.errors import Problems
from mmaudio.commands.doctor.machine import free_disk
from mmaudio.commands.doctor.sheet import quantity
from mmaudio.media.codecs import missing_codecs
from mmaudio.weights import CATALOGUE, check_place, extraction_needs, generation_needs
from mmaudio.weights.state import MISSING, WRONG, state

_HERE = Path()
_UNITS = {"MB": 1e6, "GB": 1e9}


def needed_weights(topic: str, mode: str, variant: str | None) -> tuple[str, ...]:
    """Names of what a command loads. Generating with own weights, or evaluating, needs no published network."""
    if topic == "extract":
        return extraction_needs(mode)
    if topic == "evaluate":  # samples rows of features, so it only decodes
        return f"vae_{mode}", f"vocoder_{mode}"
    if variant is not None:
        return generation_needs(variant)
    return f"vae_{mode}", f"vocoder_{mode}", "synchformer", "clip"


def size_bytes(size: str) -> float:
    """Of a size as the catalogue has it: `601 MB`."""
    number, unit = size.split()
    return float(number) * _UNITS[unit]


def weight_lines(names: Sequence[str], places: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """What there is of each, and its size."""
    for name in names:
        row = CATALOGUE[name]
        yield name, f"from {places[name]}" if name in places else f"{state(row, _HERE):<10}  {row.size:>6}  {row.path(_HERE)}"


def check_weights(names: Sequence[str], places: Mapping[str, str], problems: Problems) -> None:
    """Add a sentence for each weight that is missing or wrong, for places where none is, and for a disk without room."""
    to_fetch = 0.0
    for name, place in places.items():
        problems.check(partial(check_place, name, place))
    for row in (CATALOGUE[name] for name in names if name not in places):
        found = state(row, _HERE)
        if found == WRONG:
            problems.add(row.told(f"{row.path(_HERE)} is not the published file"))
        elif found == MISSING:
            to_fetch += size_bytes(row.size)
            problems.add(row.told(f"{row.path(_HERE)} ({row.size}) is missing"))
    if to_fetch > free_disk(_HERE):
        problems.add(f"the missing weights are {quantity(to_fetch, 'B')} and {quantity(free_disk(_HERE), 'B')} are free here; make room")


def check_codecs(problems: Problems) -> None:
    """Add a sentence where the FFmpeg of PyAV lacks codecs."""
    if lacking := missing_codecs():
        problems.add(f"PyAV's FFmpeg has no {', '.join(lacking)}; install its wheel anew: `pip install --force-reinstall --no-deps av`")
