"""Features against features: a row's own, a caption's one."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mmaudio.store.columns import carried
from mmaudio.store.format import LATENTS, TEXT

Features = Mapping[str, Tensor]  # column → features of one row, (tokens, width)
MODALITIES = {"caption": (TEXT,), "sound": LATENTS, "picture": ("clip_features",), "synchronisation": ("sync_features",)}
# Relative error that two encodings of one file may have: bf16 arithmetic turns a pretrained vector by up to 0.014
# (docs/performance.md; CLIP's text: 0.013), decoders that disagree by one of 255 levels in every pixel move lite's by 0.022.
# Features of other media were 0.23 to 1.05 apart (lite, drawn videos), of other captions 0.2 and more (see SAME_TEXT).
ENCODED_AGAIN = 3e-2
DIGEST_NUMBERS = 256
DIGEST_SLACK = 4.0  # a few numbers of a feature may be off by more than the whole


def relative_error(found: Tensor, wanted: Tensor) -> float:
    """|found − wanted| / |wanted|, Euclidean; infinite for other shapes or where only `wanted` is zero."""
    if found.shape != wanted.shape:
        return float("inf")
    wanted_wide = wanted.double()
    error, norm = float((found.double() - wanted_wide).norm()), float(wanted_wide.norm())
    if norm == 0:
        return 0.0 if error == 0 else float("inf")
    return error / norm


def limits_of(dtypes: Mapping[str, torch.dtype]) -> dict[str, float]:
    """Modality → the relative error up to which features are the same.

    Rounding moves no number by more than half the distance to the next, so it moves no vector by more than that share of
    its length: 2⁻⁸ for bf16, 2⁻¹¹ for fp16 (measured: 0.0017 to 0.0026, and 0.0001 to 0.0003). ENCODED_AGAIN is added.

    Args:
        dtypes: column (of a row, and `text_features`) → stored dtype; float32 where not given.
    """
    half_steps = {name: torch.finfo(dtypes.get(name, torch.float32)).eps / 2 for names in MODALITIES.values() for name in names}
    return {modality: ENCODED_AGAIN + max(half_steps[name] for name in names) for modality, names in MODALITIES.items()}


def errors_of(found: Features, stored: Features) -> dict[str, float]:
    """Modality → relative error, for the modalities that both have; the larger one where two columns make it."""
    errors = {}
    for modality, names in MODALITIES.items():
        if all(name in found and name in stored for name in names):
            each = torch.tensor([relative_error(found[name], stored[name]) for name in names])
            errors[modality] = float(each.max())  # unlike Python's, keeps one that is not a number
    return errors


def digest_of(features: Features) -> dict[str, Tensor]:
    """A few evenly spaced numbers of each feature, (n, 1): enough to leave most other rows unread."""
    return {name: value.flatten()[:: -(-value.numel() // DIGEST_NUMBERS)][:, None].clone() for name, value in features.items()}


@dataclass(frozen=True)
class Finding:
    """A row with features that are not those of its media or caption: modality → error, and → the row its own are in."""

    row: int
    errors: dict[str, float]
    places: dict[str, int]

    def sentence(self, id_of: Callable[[int], str]) -> str:
        """The finding in words; `id_of` gives the id of a row."""
        groups: dict[int | None, list[str]] = {}
        for modality in self.errors:
            groups.setdefault(self.places.get(modality), []).append(modality)
        return f"row {self.row} (id {id_of(self.row)!r}): " + "; ".join(self._group(*group, id_of) for group in groups.items())

    def _group(self, place: int | None, modalities: Sequence[str], id_of: Callable[[int], str]) -> str:
        named = " and ".join(f"{modality} (error {self.errors[modality]:.3g})" for modality in modalities)
        verb = "is" if len(modalities) == 1 else "are"
        where = "none of the rows looked at" if place is None else f"row {place} (id {id_of(place)!r})"
        return f"{named} {verb} not its own, which {verb} in {where}"


class RowComparison:
    """Compares rows of one store with features encoded again, and looks where else these stand."""

    def __init__(self, read: Callable[[int], Features], num_rows: int, sampled: Iterable[int], limits: Mapping[str, float]) -> None:
        """`read` gives the stored features of a row; of the sampled ones digests are kept."""
        self._read, self._num_rows, self._limits = read, num_rows, limits
        self._digests = {row: digest_of(read(row)) for row in sampled}

    def compare(self, row: int, found: Features) -> Finding | None:
        """What of a row is not its own; None where all is. Modalities that were not encoded are left out."""
        errors = {name: error for name, error in errors_of(found, self._read(row)).items() if not error <= self._limits[name]}
        places: dict[str, int] = {}
        for other in self._candidates(row, found, errors) if errors else ():
            there = errors_of(found, self._read(other))
            places |= {name: other for name in errors if name not in places and there[name] <= self._limits[name]}
            if len(places) == len(errors):
                break
        return Finding(row, errors, places) if errors else None

    def _candidates(self, row: int, found: Features, wrong: Iterable[str]) -> Iterable[int]:
        """Neighbours, then sampled rows whose digest is near that of the features."""
        neighbours = [other for other in (row - 1, row + 1) if 0 <= other < self._num_rows]
        yield from neighbours
        digest = digest_of(found)
        for other, kept in self._digests.items():
            near = errors_of(digest, kept)
            if other not in (row, *neighbours) and any(near[name] <= DIGEST_SLACK * self._limits[name] for name in wrong):
                yield other


def shift_of(findings: Sequence[Finding], num_compared: int) -> int | None:
    """+1 or −1 where most of what is not its own stands so many rows further on: the table lost a row, or has one too many.

    A single exchange of neighbours gives as many one way as the other, and is none. One row that points to its
    neighbour says as much only where no row at all has its own.
    """
    steps = Counter(step for finding in findings for step in {place - finding.row for place in finding.places.values()})
    for step in (1, -1):
        enough = 2 if len(findings) < num_compared else 1
        if steps[step] >= enough and steps[step] > steps[-step] and 2 * steps[step] >= len(findings):
            return step
    return None


# ---- Which rows have one caption, and whether these have one text feature

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
