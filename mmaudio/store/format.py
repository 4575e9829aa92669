"""Kinds, layouts, columns, names of files, the record."""

import dataclasses
import hashlib
import io
import math
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmaudio.base.errors import UserError
from mmaudio.base.specs import CLIP_WIDTH, LAYOUTS, SYNC_WIDTH, TEXT_TOKENS, TEXT_WIDTH, AudioSpec
from mmaudio.files.atomic import atomic_path, text_hash
from mmaudio.files.tensor_files import read_tensor_file


def pack_null_text(feature: Tensor) -> bytes:
    """What the file of a feature, (77, 1024), holds: it as float32."""
    content = io.BytesIO()
    torch.save(feature[None].float(), content)
    return content.getvalue()


def write_null_text(path: Path, feature: Tensor) -> None:
    """Write the feature, (77, 1024), as float32, atomically."""
    content = pack_null_text(feature)  # first: torch does not say of a full disk that it is one
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def read_null_text(path: Path) -> Tensor:
    """The feature, (77, 1024) float32. Raises: UserError for a file that cannot be read or holds something else."""
    content = read_tensor_file(path)
    if not isinstance(content, Tensor) or tuple(content.shape[-2:]) != (TEXT_TOKENS, TEXT_WIDTH):
        raise UserError(f"{path} does not hold the text feature of the empty string: want a tensor (1, {TEXT_TOKENS}, {TEXT_WIDTH})")
    return content.reshape(-1, TEXT_TOKENS, TEXT_WIDTH)[0].float()


FORMAT_VERSION = 1
UNFINISHED = "unfinished"  # instead of it, in the record of a store that is being written
KINDS = ("video", "audio")
STORE_FILES = ("meta.json", "*.memmap")
CAPTION_COLUMNS = {"video": "label", "audio": "caption"}  # the published system's names of the same thing
TEXT_SHAPE = (TEXT_TOKENS, TEXT_WIDTH)
TEXT = "text_features"  # published layout: one text feature a row
TEXT_TABLE, TEXT_ROW, NULL_TEXT = "text_table", "text_row", "null_text"  # compact layout: one a distinct caption
LATENTS = ("mean", "std")
VIDEO_FEATURES = ("clip_features", "sync_features")
_NO_DEFAULTS = (MISSING, MISSING)
DEFAULT_FEATURE_DTYPE = torch.bfloat16  # of features and text in the compact layout


def columns(kind: str, spec: AudioSpec) -> dict[str, tuple[int, ...]]:
    """The columns of one row and their shapes, in published order, without the text: mean, std[, clip and sync features].

    Raises: ValueError for an unknown kind.
    """
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; want one of {', '.join(KINDS)}")
    latent = (spec.num_latents, spec.latent_channels)
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(LATENTS, latent)
    if kind == "video":
        shapes["clip_features"] = (spec.num_clip_frames, CLIP_WIDTH)
        shapes["sync_features"] = (spec.num_sync_tokens, SYNC_WIDTH)
    return shapes


@dataclass(frozen=True)
class Layout:
    """Shape of a row and dtype of every column of a store, in the order of its meta.json."""

    name: str  # of LAYOUTS
    row_shapes: Mapping[str, tuple[int, ...]]  # columns with a row for each clip
    table_shapes: Mapping[str, tuple[int, ...]]  # text_table, with a row for each distinct caption
    fixed_shapes: Mapping[str, tuple[int, ...]]  # null_text, which has no rows
    dtypes: Mapping[str, torch.dtype]

    @property
    def text_dtype(self) -> torch.dtype:
        return self.dtypes[TEXT_TABLE if TEXT_TABLE in self.dtypes else TEXT]

    @property
    def dtype_names(self) -> dict[str, str]:
        """As a record has them."""
        return {column: dtype_name(self.dtypes[column]) for column in self.shapes(0, 0)}

    def shapes(self, num_rows: int, num_captions: int) -> dict[str, tuple[int, ...]]:
        """The shape of every whole column. The order is that of meta.json."""
        table = {name: (num_captions, *shape) for name, shape in self.table_shapes.items()}
        rows = {name: (num_rows, *shape) for name, shape in self.row_shapes.items()}
        text_row = {name: rows.pop(name) for name in (TEXT_ROW,) if name in rows}
        return rows | table | text_row | dict(self.fixed_shapes)


def layout_of(name: str, kind: str, spec: AudioSpec, dtypes: Mapping[str, torch.dtype] | None = None) -> Layout:
    """The layout of this name.

    Args:
        name: `compact`, or `published` (all columns float32, one text feature a row).
        kind: `video` or `audio`.
        dtypes: for `compact`, dtypes other than DEFAULT_FEATURE_DTYPE of clip_features, sync_features and text
            (text_table and null_text); latents are always float32.
    Raises: ValueError for an unknown name or kind. UserError for a dtype that a column cannot have.
    """
    chosen = dict(dtypes or {})
    if name not in LAYOUTS:
        raise ValueError(f"layout is {name!r}; want one of {', '.join(LAYOUTS)}")
    row_shapes = columns(kind, spec)
    if name == "published":
        if any(dtype != torch.float32 for dtype in chosen.values()):
            raise UserError("the published layout is float32 throughout; leave dtypes of columns out, or take the compact layout")
        row_shapes[TEXT] = TEXT_SHAPE
        return Layout(name, row_shapes, {}, {}, dict.fromkeys(row_shapes, torch.float32))
    features = [column for column in VIDEO_FEATURES if column in row_shapes]
    for column, dtype in chosen.items():
        if column not in (*features, "text") or not dtype.is_floating_point:
            raise UserError(f"no choice of dtype for {column!r}; a store of kind {kind} has one for {', '.join((*features, 'text'))}")
    found = {column: chosen.get(column, DEFAULT_FEATURE_DTYPE) for column in features}
    found |= dict.fromkeys((TEXT_TABLE, NULL_TEXT), chosen.get("text", DEFAULT_FEATURE_DTYPE))
    dtypes_of = dict.fromkeys(LATENTS, torch.float32) | {TEXT_ROW: torch.int32} | found
    return Layout(name, row_shapes | {TEXT_ROW: ()}, {TEXT_TABLE: TEXT_SHAPE}, {NULL_TEXT: TEXT_SHAPE}, dtypes_of)


def table_path(memmap_dir: Path) -> Path:
    """The table of a store's rows. Appended, not substituted: a dot in the name is part of the name."""
    return memmap_dir.parent / f"{memmap_dir.name}.tsv"


def record_path(memmap_dir: Path) -> Path:
    """The record of a store."""
    return memmap_dir.parent / f"{memmap_dir.name}.json"


def null_text_path(memmap_dir: Path) -> Path:
    """The null text feature of a store in the published layout, which has no place for it inside (see mmaudio.store.format)."""
    return memmap_dir.parent / f"{memmap_dir.name}.empty_string.pth"


def hash_rows(ids: Sequence[str], captions: Sequence[str]) -> str:
    """A hash of which rows stand in which order, with which captions."""
    return text_hash([text for pair in zip(ids, captions, strict=True) for text in pair])


def hash_null_text(feature: Tensor, dtype: torch.dtype) -> str:
    """A hash of the null text, (77, 1024), as it stands in a column of this dtype."""
    return hashlib.sha256(feature.to("cpu", dtype).float().numpy().tobytes()).hexdigest()[:16]


def dtype_name(dtype: torch.dtype) -> str:
    """`float32` for torch.float32."""
    return str(dtype).removeprefix("torch.")


@dataclass(frozen=True)
class StoreRecord:
    """What made a store and what it holds, as JSON beside it; a store of the published system has none."""

    format_version: int
    kind: str
    layout: str
    mode: str
    backend: str
    duration_s: float
    num_rows: int
    dtypes: dict[str, str]  # column -> dtype on disk
    latent_mean: list[float]  # per channel, of `mean` over rows and time
    latent_std: list[float]  # likewise, with n - 1
    rows_hash: str  # of ids and captions, see hash_rows
    weights: dict[str, str]  # encoder -> checksum of its weights
    versions: dict[str, str]  # software -> version
    frame_rule: str  # how video frames were picked: data.md sections 6.1 (exact) and 6.3 (ffmpeg)
    # Not in every record: earlier versions had one way.
    dtype: str = "fp32"  # arithmetic of the encoders
    normalised: bool = True  # whether each sound was brought to one peak
    resize: str = "host"  # where frames got their sizes, `host` or `device`
    null_text_hash: str = ""  # of what the encoder made of the empty string, see hash_null_text; "" where that is not known
    mark: dict[str, Any] = field(default_factory=dict)  # that this program made the store, see `replacing.store_mark`

    def to_json(self) -> dict[str, Any]:
        content = dataclasses.asdict(self)
        return content if self.null_text_hash else {key: value for key, value in content.items() if key != "null_text_hash"}

    @classmethod
    def from_json(cls, content: Mapping[str, Any], name: str) -> "StoreRecord":
        """Read a record; keys it does not know are left out.

        Args:
            content: the parsed JSON object.
            name: what messages call the file.
        Raises: UserError for another format version or a missing or malformed key.
        """
        if not isinstance(content, Mapping) or "format_version" not in content:
            raise UserError(f"{name} is not the record of a store (it has no format_version); move it away or extract the store again")
        if content["format_version"] == UNFINISHED:
            raise UserError(f"{name} says that its store was being written when that was interrupted; run the same command again")
        if content["format_version"] != FORMAT_VERSION:
            raise UserError(
                f"{name} has format version {content['format_version']!r} and this program reads {FORMAT_VERSION}; extract the store again"
            )
        fields = [f for f in dataclasses.fields(cls) if f.name in content or (f.default, f.default_factory) == _NO_DEFAULTS]
        wrong = [each.name for each in fields if not _is_of(content.get(each.name), each.type)]
        if wrong or content["num_rows"] < 0:
            raise UserError(f"{name} lacks or garbles {', '.join(wrong or ['num_rows'])}; extract the store again")
        return cls(**{each.name: content[each.name] for each in fields})


def _is_of(value: Any, annotation: Any) -> bool:
    """Whether a value from JSON is of a field's annotation; numbers are finite, and True is none."""
    if annotation is Any:
        return True
    if annotation is float:
        return type(value) in (int, float) and abs(value) < math.inf
    parts = typing.get_args(annotation)
    if type(value) is not (typing.get_origin(annotation) or annotation):
        return False
    return all(_is_of(item, parts[-1]) for item in (value.values() if isinstance(value, dict) else value)) if parts else True
