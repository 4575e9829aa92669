"""Features of a folder of clips, as av-benchmark keeps them: one file for each kind, id → tensors. Read, written and checked."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmaudio.base.errors import UserError
from mmaudio.base.ownership import Mark, mark_archive_
from mmaudio.metrics.cache_files import CACHE_FILES as CACHE_FILES
from mmaudio.metrics.cache_files import WHOLE, Axes, CacheFile
from mmaudio.metrics.cache_files import cache_path as cache_path

if TYPE_CHECKING:
    from torch import Tensor

Parts = dict[str, "Tensor"]


def _words(axes: Iterable[Any]) -> str:
    return "(" + ", ".join(axis.name if axis.length is None else str(axis.length) for axis in axes) + ")"


def _wrong_tensor(tensor: Any, axes: Axes) -> str | None:
    """What keeps one tensor from being a feature of these axes, in a few words; None if nothing does."""
    import torch

    from mmaudio.base.finite import all_finite

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
    from mmaudio.base.tensor_files import read_tensor_file

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

    from mmaudio.base.files import atomic_path

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
