"""Av-bench's cache files: which, read, written, both sides paired.

Widths may differ from the published models' (the formulas do not care), but all clips of one file have the same; what Synchformer's
comparison reads has its own.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mmaudio.base.errors import UserError, nearest
from mmaudio.base.specs import SYNC_AUDIO_TOKENS_PER_SEGMENT, SYNC_TOKENS_PER_SEGMENT, SYNC_WIDTH
from mmaudio.files.ownership import Mark, archive_mark, is_in_the_way, mark_archive_, mark_of
from mmaudio.metrics.results import MetricUnavailableError
from mmaudio.metrics.spectrum import Floats

if TYPE_CHECKING:
    from torch import Tensor

SUFFIX = ".pth"
WHOLE = ""  # the part of a value that is one tensor


@dataclass(frozen=True)
class FeatureAxis:
    """One axis of a feature: how long it is (None: any length), and whether it is as long for all clips of a file."""

    name: str
    length: int | None = None
    is_shared: bool = True


Axes = tuple[FeatureAxis, ...]
WIDTH = FeatureAxis("width")
EXAMPLES, SEGMENTS = FeatureAxis("examples", is_shared=False), FeatureAxis("segments", is_shared=False)


@dataclass(frozen=True)
class CacheFile:
    """What one clip's value is: part → axes; the one part "" is a tensor itself, others are the keys of a dictionary."""

    stem: str
    made_of: str  # sound, video or text
    parts: Mapping[str, Axes]
    spare_parts: Mapping[str, Axes] = field(default_factory=dict)  # no metric reads them; they may be missing

    @property
    def has_parts(self) -> bool:
        return WHOLE not in self.parts


def _row(stem: str, made_of: str, *axes: FeatureAxis) -> CacheFile:
    return CacheFile(stem, made_of, MappingProxyType({WHOLE: axes}))


_PANN = MappingProxyType({"2048": (WIDTH,), "logits": (WIDTH,)})
_ROWS = (
    CacheFile("pann_features", "sound", _PANN, MappingProxyType({"clipwise_output": (WIDTH,)})),
    _row("vggish_features", "sound", EXAMPLES, WIDTH),
    _row("passt_features_embed", "sound", WIDTH),
    _row("passt_logits", "sound", WIDTH),
    _row("imagebind_audio", "sound", WIDTH),
    _row("synchformer_audio", "sound", SEGMENTS, FeatureAxis("vectors", SYNC_AUDIO_TOKENS_PER_SEGMENT), FeatureAxis("width", SYNC_WIDTH)),
    _row("clap_laion_audio", "sound", WIDTH),
    _row("clap_ms_audio", "sound", WIDTH),
    _row("imagebind_video", "video", WIDTH),
    _row("synchformer_video", "video", SEGMENTS, FeatureAxis("vectors", SYNC_TOKENS_PER_SEGMENT), FeatureAxis("width", SYNC_WIDTH)),
    _row("clap_laion_text", "text", WIDTH),
    _row("clap_ms_text", "text", WIDTH),
)
CACHE_FILES: Mapping[str, CacheFile] = MappingProxyType({row.stem: row for row in _ROWS})


def cache_path(folder: Path, stem: str) -> Path:
    """Where a folder keeps features of a kind. Raises: UserError for a kind that there is none of."""
    if stem not in CACHE_FILES:
        raise UserError(f"no features are called {stem!r}{nearest(stem, CACHE_FILES)}; known are {', '.join(CACHE_FILES)}")
    return folder / (stem + SUFFIX)


# ---- The files of one folder: one for each kind, id → tensors; read, written and checked

Parts = dict[str, "Tensor"]


def _words(axes: Iterable[Any]) -> str:
    return "(" + ", ".join(axis.name if axis.length is None else str(axis.length) for axis in axes) + ")"


def _wrong_tensor(tensor: Any, axes: Axes) -> str | None:
    """What keeps one tensor from being a feature of these axes, in a few words; None if nothing does."""
    import torch

    from mmaudio.files.tensor_files import all_finite

    if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point():
        return f"is no tensor of floating numbers but {getattr(tensor, 'dtype', type(tensor).__name__)}"
    sizes = list(zip(axes, tensor.shape, strict=False))
    if tensor.ndim != len(axes) or any(axis.length not in (None, size) or (axis.is_shared and not size) for axis, size in sizes):
        return f"has shape {tuple(tensor.shape)}; want {_words(axes)}"
    return None if all_finite(tensor) else "holds NaN or infinity"


def _parts_of(row: CacheFile, clip_id: str, value: Any, path: Path) -> Parts:
    """The tensors of one clip's value by part, each of the right axes. Parts that the table does not know are dropped."""
    if row.has_parts and not (isinstance(value, Mapping) and set(row.parts) <= set(value)):
        raise UserError(f"{path}: the value of {clip_id!r} is no dictionary of {', '.join(row.parts)}; make the file anew")
    known = {**row.parts, **row.spare_parts}
    parts = {part: value[part] for part in known if part in value} if row.has_parts else {WHOLE: value}
    for part, tensor in parts.items():
        if wrong := _wrong_tensor(tensor, known[part]):
            raise UserError(f"{path}: the value of {clip_id!r}{f' ({part})' if part else ''} {wrong}; make its features anew")
    return parts


def _check_alike(row: CacheFile, checked: Mapping[str, Parts], path: Path) -> None:
    """Whether all clips have features of one width."""
    first: dict[tuple[str, int], tuple[int, str]] = {}  # (part, axis) → length, and of which clip
    for clip_id, parts in checked.items():
        for part, tensor in parts.items():
            for place, axis in enumerate({**row.parts, **row.spare_parts}[part]):
                size, other = first.setdefault((part, place), (tensor.shape[place], clip_id))
                if axis.is_shared and size != tensor.shape[place]:
                    raise UserError(
                        f"{path}: the {axis.name} of {clip_id!r} is {tensor.shape[place]} and that of {other!r} is {size}, so they are"
                        " of two models; make the file anew"
                    )


def _check(row: CacheFile, content: Any, path: Path) -> dict[str, Parts]:
    """Every clip's tensors by part. Raises: UserError for anything that the table does not say."""
    if not isinstance(content, Mapping) or not all(isinstance(clip_id, str) for clip_id in content):
        raise UserError(f"{path} holds no dictionary of id to {row.stem}; remove it and make it anew")
    checked = {clip_id: _parts_of(row, clip_id, value, path) for clip_id, value in content.items()}
    _check_alike(row, checked, path)
    return checked


def _values(row: CacheFile, checked: Mapping[str, Parts]) -> dict[str, Any]:
    return {clip_id: parts if row.has_parts else parts[WHOLE] for clip_id, parts in checked.items()}


def read_features(folder: Path, stem: str) -> dict[str, Any]:
    """The features of a kind in a folder, in the file's order.

    Args:
        folder: a cache folder.
        stem: a name of `CACHE_FILES`.
    Returns: id → tensor, or id → {part: tensor} where the table has parts; on the CPU, read by mmap: the
        file may be replaced meanwhile, as `write_features` does, but not overwritten in place.
    Raises: UserError, naming the file, if there is none, it is damaged or of another kind; naming the clip, too, if a
        value is misshapen or not finite.
    """
    from mmaudio.files.tensor_files import read_tensor_file

    path = cache_path(folder, stem)
    if not path.is_file():
        raise UserError(f"no {path.name} in {folder}; make these features first")
    try:
        content = read_tensor_file(path)
    except UserError:  # its words are about weights, and a torn file looks to it like a failing disk
        raise UserError(f"{path} is no readable file of features: it is torn or of another kind; remove it and make it anew") from None
    row = CACHE_FILES[stem]
    return _values(row, _check(row, content, path))


def write_features(folder: Path, stem: str, features: Mapping[str, Any], mark: Mark | None = None) -> Path:
    """Write a cache file, atomically, sorted by id; every tensor is saved on its own, whatever it is a view of, as float32.

    Args:
        folder: made if missing.
        stem: a name of `CACHE_FILES`.
        features: id → tensor, or id → {part: tensor}, as the table says; on any device, of any floating dtype.
        mark: what says that this program made the file, and may replace it.
    Returns: the file.
    Raises: UserError as `read_features`; nothing is written then.
    """
    import torch

    from mmaudio.files.atomic import atomic_path

    def own(tensor: "Tensor") -> "Tensor":
        return tensor.detach().to("cpu", torch.float32).clone(memory_format=torch.contiguous_format)

    path, row = cache_path(folder, stem), CACHE_FILES[stem]
    checked = _check(row, features, path)
    alone = {clip_id: {part: own(tensor) for part, tensor in checked[clip_id].items()} for clip_id in sorted(checked)}
    with atomic_path(path) as temporary:
        torch.save(_values(row, alone), temporary)
        if mark is not None:
            mark_archive_(temporary, mark)
    return path


# ---- What of a folder this program made: its record, its cache files and the parts on their way carry a mark

RECORD_FILE = "cache.json"  # of a cache folder: what its features were made of
PARTS_FOLDER = ".parts"  # in a cache folder, with a folder for each extractor
_KIND, _RECORD_KIND = "features", "record of features"


def _owner(folder: Path) -> str:
    """What features belong to: the folder they are in, by its own name, whichever link leads there."""
    return Path(os.path.realpath(folder)).name


def features_mark(path: Path) -> Mark:
    """The mark of a file of features that is to be at a place."""
    return mark_of(_KIND, _owner(path.parent), name=path.name)


def record_mark(folder: Path) -> Mark:
    """The mark of the record of a cache folder."""
    return mark_of(_RECORD_KIND, _owner(folder))


def is_foreign_record(folder: Path) -> bool:
    """Whether a cache folder has something else where its record belongs, or one that no mark proves to be ours."""
    return is_in_the_way(folder / RECORD_FILE, _RECORD_KIND, _owner(folder))


def is_foreign(path: Path) -> bool:
    """Whether something stands where a cache file or a part belongs that this program did not make."""
    return is_in_the_way(path, _KIND, _owner(path.parent), archive_mark)


def foreign_features(folder: Path, stems: Iterable[str]) -> list[Path]:
    """What in a cache folder may not be replaced by features of these kinds."""
    if not folder.is_dir():
        return [folder] if os.path.lexists(folder) else []
    record = [folder / RECORD_FILE] if is_foreign_record(folder) else []
    files = [*(cache_path(folder, stem) for stem in sorted(set(stems))), *sorted(folder.glob(f"{PARTS_FOLDER}/*/*.pth"))]
    return record + [path for path in files if is_foreign(path)]


def remove_features(folder: Path) -> None:
    """Remove what this program made in a cache folder, and what is empty then; all else stays."""
    if not folder.is_dir():
        return
    for path in [*(cache_path(folder, stem) for stem in CACHE_FILES), *folder.glob(f"{PARTS_FOLDER}/*/*.pth")]:
        if path.exists() and not is_foreign(path):
            path.unlink()
    if not is_foreign_record(folder):
        (folder / RECORD_FILE).unlink(missing_ok=True)
    for emptied in (*folder.glob(f"{PARTS_FOLDER}/*"), folder / PARTS_FOLDER, folder):
        with suppress(OSError):  # not empty, or a link to another place
            emptied.rmdir()


# ---- Two folders, and which clips are in both

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


class PairedCaches:
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
            raise MetricUnavailableError(found)
        if not found:
            asked_for = "" if self._ids is None else " asked for"
            raise MetricUnavailableError(f"{cache_path(self._folder(side, stem), stem)} holds no clip{asked_for}; make these features")
        return found

    def pairs(self, reference_stem: str, predicted_stem: str) -> list[str]:
        """The clips that have features of the one kind in the reference and of the other in what was predicted, in the latter's order.

        Raises: UntellableError if there are none, or a file cannot be had.
        """
        real, generated = self.features("reference", reference_stem), self.features("predicted", predicted_stem)
        paired = [clip_id for clip_id in generated if clip_id in real]
        if not paired:
            theirs, ours = next(iter(real)), next(iter(generated))
            raise MetricUnavailableError(
                f"no clip has both {reference_stem} in {self._folder('reference', reference_stem)} (such as {theirs!r}) and"
                f" {predicted_stem} in {self._folder('predicted', predicted_stem)} (such as {ours!r}); ids must be equal, so compare the"
                " names of the files"
            )
        return paired
