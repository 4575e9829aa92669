"""Still images: what the scene encoder sees of one, and the video of one that stays."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mmaudio.media.audio import MediaError
from mmaudio.media.containers import check_sides
from mmaudio.media.frame_streams import scene_frame
from mmaudio.media.mp4 import write_video
from mmaudio.media.reencoding import even_sides

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

LONGEST_SIDE_PX = 1920  # of the video of an image
FPS = 1
_STEPS_OF_16_BITS = 257  # a level of 8 bits is that many of 16


@dataclass(frozen=True)
class Still:
    """An image as the scene encoder takes it, (1, 3, 384, 384) uint8, and as a person sees it, (height, width, 3) uint8."""

    clip_u8: Tensor
    picture_u8: npt.NDArray[np.uint8]


def read_still(path: Path) -> Still:
    """Read an image of any kind (grey, palette, with transparency, 16 bits), turned upright as its EXIF record says.

    What is transparent has the colour it is stored with. The picture's longer side is at most LONGEST_SIDE_PX.
    Raises: MediaError for a file that is missing, no image, damaged, or of wild size.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    if not path.is_file():
        raise MediaError(f"no file at {path}")
    try:
        with Image.open(path) as image:
            check_sides(image.width, image.height)
            upright = _as_rgb(ImageOps.exif_transpose(image))
    except (UnidentifiedImageError, Image.DecompressionBombError):
        raise MediaError("not an image, or one of wild size") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # Pillow's words for damage
        if isinstance(error, MediaError):
            raise
        raise MediaError(f"the image is damaged ({error})") from None
    scene_u8 = scene_frame(torch.from_numpy(np.array(upright)).permute(2, 0, 1))
    upright.thumbnail((LONGEST_SIDE_PX, LONGEST_SIDE_PX))
    return Still(scene_u8[None], np.array(upright))


def _as_rgb(image: "PillowImage") -> "PillowImage":
    from PIL import Image

    if image.mode.startswith("I"):
        levels = np.asarray(image, dtype=np.int64) // _STEPS_OF_16_BITS
        return Image.fromarray(levels.clip(0, 255).astype(np.uint8)).convert("RGB")
    return (image.convert("RGBA") if image.mode == "P" else image).convert("RGB")


def write_still_video(path: Path, still: Still, duration_s: float, wave: npt.ArrayLike, rate_hz: int, comment: str = "") -> None:
    """An .mp4 of the image, once a second for `duration_s` (whole seconds, at least one), with the sound. Atomic."""
    write_video(path, [even_sides(still.picture_u8)] * max(1, int(duration_s) * FPS), FPS, wave, rate_hz, comment)
