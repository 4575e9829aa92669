"""The file of the null text feature, the text encoder's empty string, in the published system's format: one tensor (1, 77, 1024)."""

import io
from pathlib import Path

import torch
from torch import Tensor

from mmaudio.base.errors import UserError
from mmaudio.base.files import atomic_path
from mmaudio.base.specs import TEXT_TOKENS, TEXT_WIDTH
from mmaudio.base.tensor_files import read_tensor_file


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
