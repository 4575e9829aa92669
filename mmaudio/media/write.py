"""Pictures and sound to new video files. A video's own packets with another sound are in `muxing`, handed on from here."""

from collections.abc import Iterable
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from mmaudio.base.files import atomic_path
from mmaudio.media.aac import AacTrack
from mmaudio.media.audio import MediaError
from mmaudio.media.mp4 import CONTAINER_OPTIONS, add_h264, comment_options
from mmaudio.media.muxing import mux_sound

__all__ = ["mux_sound", "write_video"]


def write_video(
    path: Path,
    frames: Iterable[npt.NDArray[np.uint8]],
    fps: int,
    wave: npt.ArrayLike | None = None,
    rate_hz: int | None = None,
    comment: str = "",
) -> None:
    """Encode an .mp4: H.264 (yuv420p) from RGB frames (height, width, 3) uint8, and AAC from a mono wave (samples,).

    The same input gives the same bytes. `comment` goes into the container's metadata. Atomic.
    Raises: MediaError for no frames, or odd sides, which yuv420p cannot hold; ValueError for a wave without a rate.
    """
    if (wave is None) != (rate_hz is None):
        raise ValueError("wave and rate_hz belong together: give both or neither")
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise MediaError("no frames to write")
    height, width = first.shape[:2]
    with atomic_path(path.absolute()) as temporary, av.open(str(temporary), "w", format="mp4", options=CONTAINER_OPTIONS) as container:
        container.metadata.update(comment_options(comment))
        video = add_h264(container, width, height, fps)
        sound = AacTrack(container, wave, rate_hz) if wave is not None and rate_hz is not None else None
        for index, pixels in enumerate(chain((first,), frames)):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, fps)
            container.mux(video.encode(frame))
            if sound is not None:
                sound.encode_until(Fraction(index, fps))
        container.mux(video.encode(None))
        if sound is not None:
            sound.finish()
