"""Two folders of cached features, and which clips are in both."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mmaudio.base.errors import UserError
from mmaudio.metrics.bands import Floats
from mmaudio.metrics.caches import cache_path, read_features
from mmaudio.metrics.untellable import UntellableError

if TYPE_CHECKING:
    from torch import Tensor

Side = Literal["reference", "predicted"]

# How long a file's name is → the part of it that is the clip's id, by av-benchmark's rule.
_ID_WITHIN = {30: slice(10, 28), 20: slice(0, 18), 21: slice(1, 19)}


def clean_sample_name(name: str) -> str:
    """The id in a file name of VGGSound or AudioCaps, told by its length alone, as old caches need it; others stay."""
    return name[_ID_WITHIN.get(len(name), slice(None))]


def _cleaned(features: Mapping[str, Any], path: Path) -> dict[str, Any]:
    cleaned: dict[str, Any] = {}
    for name, value in features.items():
        clip_id = clean_sample_name(name)
        if clip_id in cleaned:
            raise UserError(f"{path}: {name!r} and another name both clean to {clip_id!r}; compare by exact names instead")
        cleaned[clip_id] = value
    return cleaned


def stack(values: Sequence["Tensor"]) -> Floats:
    """One row for each value."""
    return np.stack([value.numpy() for value in values]).astype(np.float64)


class Sides:
    """The cache files of the reference and of what was predicted, each read once, when it is first asked for."""

    def __init__(
        self, reference_dirs: Sequence[Path], predicted_dir: Path, ids: Sequence[str] | None = None, *, clean_names: bool = False
    ) -> None:
        """`ids`: the clips to look at, all if None; `clean_names`: shorten predicted names by av-benchmark's rule.

        Of several folders of the reference, each file is read from the first that has it.
        """
        self._folders: dict[Side, Sequence[Path]] = {"reference": reference_dirs, "predicted": [predicted_dir]}
        self._ids = None if ids is None else frozenset(ids)
        self._clean_names = clean_names
        self._read: dict[tuple[Side, str], dict[str, Any] | str] = {}  # the features, or why there are none

    def _folder(self, side: Side, stem: str) -> Path:
        """Where a file is, or the last place where it might have been."""
        folders = self._folders[side]
        return next((folder for folder in folders if cache_path(folder, stem).is_file()), folders[-1])

    def _load(self, side: Side, stem: str) -> dict[str, Any] | str:
        folder = self._folder(side, stem)
        try:
            features = read_features(folder, stem)
            if side == "predicted" and self._clean_names:
                features = _cleaned(features, cache_path(folder, stem))
        except UserError as error:
            return str(error)
        return {clip_id: value for clip_id, value in features.items() if self._ids is None or clip_id in self._ids}

    def features(self, side: Side, stem: str) -> dict[str, Any]:
        """Id → value, of the clips to look at, in the file's order. Raises: UntellableError saying why they cannot be had."""
        if (side, stem) not in self._read:
            self._read[side, stem] = self._load(side, stem)
        found = self._read[side, stem]
        if isinstance(found, str):
            raise UntellableError(found)
        if not found:
            asked_for = "" if self._ids is None else " asked for"
            raise UntellableError(f"{cache_path(self._folder(side, stem), stem)} holds no clip{asked_for}; make these features")
        return found

    def pairs(self, reference_stem: str, predicted_stem: str) -> list[str]:
        """The clips that have features of the one kind in the reference and of the other in what was predicted, in the latter's order.

        Raises: UntellableError if there are none, or a file cannot be had.
        """
        real, generated = self.features("reference", reference_stem), self.features("predicted", predicted_stem)
        paired = [clip_id for clip_id in generated if clip_id in real]
        if not paired:
            theirs, ours = next(iter(real)), next(iter(generated))
            raise UntellableError(
                f"no clip has both {reference_stem} in {self._folder('reference', reference_stem)} (such as {theirs!r}) and"
                f" {predicted_stem} in {self._folder('predicted', predicted_stem)} (such as {ours!r}); ids must be equal, so compare the"
                " names of the files"
            )
        return paired
