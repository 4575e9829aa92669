"""Decoded pictures to the frames of both streams, sized."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from fractions import Fraction
from functools import cached_property
from typing import Generic, TypeVar

import av
import numpy as np
import torch
from av.sidedata.sidedata import SideDataContainer
from av.video.reformatter import VideoReformatter
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from mmaudio.base.specs import CLIP_SIDE_PX, SYNC_SIDE_PX
from mmaudio.media.audio import MediaError
from mmaudio.media.containers import check_sides, clock_origin_s, cut_off, picture_of
from mmaudio.media.frame_selection import FramePicker

# ---- Frames in the two sizes that the encoders take, uint8 in and out: (3, height, width) RGB


def _resize(frame_u8: Tensor, height: int, width: int) -> Tensor:
    # A batch of one is seen to lie with its channels last, as decoded frames do, and takes half the time.
    return F.resize(frame_u8[None], [height, width], InterpolationMode.BICUBIC, antialias=True)[0]


def scene_frame(frame_u8: Tensor) -> Tensor:
    """Squeeze to 384 × 384, whatever the shape; bicubic with antialiasing."""
    return _resize(frame_u8, CLIP_SIDE_PX, CLIP_SIDE_PX)


def sync_frame(frame_u8: Tensor) -> Tensor:
    """Bring the shorter side to 224 and cut the middle 224 × 224."""
    height, width = frame_u8.shape[-2:]
    short = min(height, width)
    size = [int(SYNC_SIDE_PX * height / short), int(SYNC_SIDE_PX * width / short)]
    resized = _resize(frame_u8, *size)
    top, left = (round((side - SYNC_SIDE_PX) / 2) for side in size)  # halves to even, as published
    return resized[..., top : top + SYNC_SIDE_PX, left : left + SYNC_SIDE_PX]


# ---- Decoded pictures to streams of frames

QUARTER_TURN_DEG = 90
FIRST_ROOM_FRAMES = 256  # more than the usual clip has; twice as much whenever it is full


def _is_mirrored(frame: "av.VideoFrame") -> bool:
    # Not frame.side_data: the frame would keep that, and that the frame, so that both would stay in memory until the next
    # garbage collection, hundreds of frames in the meantime.
    matrix = SideDataContainer(frame).get("DISPLAYMATRIX")  # type: ignore[call-arg]  # its stub leaves the argument out
    if matrix is None:
        return False
    a, b, _, c, d = (int(value) for value in np.frombuffer(bytes(matrix), np.int32)[:5])
    return a * d < b * c


def upright_rgb(frame: "av.VideoFrame", reformatter: VideoReformatter) -> Tensor:
    """(3, height, width) uint8 RGB, turned upright, channels last in memory. The reformatter is shared by a file's frames."""
    rgb = reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
    turns = round(frame.rotation / QUARTER_TURN_DEG)  # counter-clockwise, both here and in the file
    if _is_mirrored(frame):  # first left to right; what is left to do is a turn, half a turn from the one told
        rgb, turns = rgb[:, ::-1], turns + 2
    return torch.from_numpy(np.ascontiguousarray(np.rot90(rgb, turns))).permute(2, 0, 1)


class Shown:
    """A decoded frame with its time on the file's clock, and, once somebody asks, its pixels.

    `damaged_s` is when the decoder had to make up what it could not read, in this frame or one that this may be made from: one
    since the key frame (None: it never had to). The track hands it on from frame to frame.
    """

    def __init__(
        self, frame: "av.VideoFrame", origin_s: Fraction, reformatter: VideoReformatter, damaged_s: Fraction | None = None
    ) -> None:
        if frame.pts is None or frame.time_base is None:
            raise MediaError("a frame has no time stamp")
        self.frame = frame
        self.reformatter = reformatter
        self.time_s = frame.pts * frame.time_base - origin_s
        self.damaged_s = None if frame.key_frame else damaged_s
        if frame.is_corrupt and self.damaged_s is None:
            self.damaged_s = self.time_s
        self.ends_s = self.time_s + frame.duration * frame.time_base if frame.duration else None

    @cached_property
    def pixels(self) -> Tensor:
        return upright_rgb(self.frame, self.reformatter)


class OutputStream(ABC):
    """One of the two streams while it fills."""

    def __init__(self, picker: FramePicker) -> None:
        self.picker = picker

    def take(self, before: Shown | None, now: Shown) -> None:
        fills = self.picker.take(now.time_s)
        if before is not None and fills.before:
            self._show(before, fills.before)
        if fills.now:
            self._show(now, fills.now)

    def finish(self, last: Shown) -> None:
        fills = self.picker.finish(last.ends_s)
        if fills:
            self._show(last, fills)

    def _show(self, shown: Shown, num_times: int) -> None:
        if shown.damaged_s is not None:
            raise MediaError(f"the picture is damaged at {float(shown.damaged_s):.2f} s")
        self._add(shown, num_times)

    @abstractmethod
    def _add(self, shown: Shown, num_times: int) -> None:
        """Let the next output frames show this one."""


class FilledStream(OutputStream):
    """A stream of frames of one size, (frames, 3, side, side) uint8."""

    def __init__(self, picker: FramePicker, transform: Callable[[Tensor], Tensor], side_px: int) -> None:
        super().__init__(picker)
        assert picker.count is not None
        self.transform = transform
        self.num_frames = 0
        self.room_u8 = np.empty((min(picker.count, FIRST_ROOM_FRAMES), 3, side_px, side_px), np.uint8)

    @property
    def frames_u8(self) -> Tensor:
        return torch.from_numpy(self.room_u8[: self.num_frames])

    def _add(self, shown: Shown, num_times: int) -> None:
        end = self.num_frames + num_times
        if end > len(self.room_u8):
            more = np.empty((max(len(self.room_u8), end - len(self.room_u8)), *self.room_u8.shape[1:]), np.uint8)
            self.room_u8 = np.concatenate([self.room_u8, more])
        self.room_u8[self.num_frames : end] = self.transform(shown.pixels).numpy()  # NumPy lays channels apart in half of PyTorch's time
        self.num_frames = end


Stream = TypeVar("Stream", bound=OutputStream)


def scene_and_sync(clip: FramePicker, sync: FramePicker) -> tuple[FilledStream, FilledStream]:
    """The two streams of frames as the encoders take them."""
    return FilledStream(clip, scene_frame, CLIP_SIDE_PX), FilledStream(sync, sync_frame, SYNC_SIDE_PX)


class PictureTrack(Generic[Stream]):
    """Fills the scene and the synchronisation stream in one pass over the picture."""

    def __init__(self, container: "av.container.InputContainer", clip: Stream, sync: Stream) -> None:
        self.stream = picture_of(container)
        self.clip = clip
        self.sync = sync
        self.origin_s = clock_origin_s(container)
        self.reformatter = VideoReformatter()
        self.last: Shown | None = None
        self.damaged_s: Fraction | None = None

    @property
    def is_done(self) -> bool:
        return self.clip.picker.is_done and self.sync.picker.is_done

    def take(self, frame: "av.VideoFrame") -> None:
        check_sides(frame.width, frame.height)  # it may change halfway
        shown = Shown(frame, self.origin_s, self.reformatter, self.damaged_s)
        self.damaged_s = shown.damaged_s
        self.clip.take(self.last, shown)
        self.sync.take(self.last, shown)
        if not self.is_done:  # else it may lie past the end, and is not one to be held
            self.last = shown

    def finish(self) -> None:
        """Let the last frame stand for what the rule has it stand for. Raises: MediaError if frames are still missing."""
        is_read_to_end = not self.is_done
        if self.last is not None:
            self.clip.finish(self.last)
            self.sync.finish(self.last)
        if is_read_to_end and not (self.clip.picker.is_full and self.sync.picker.is_full):
            self._check_end()
        self.clip.picker.check("scene")
        self.sync.picker.check("synchronisation")

    def _check_end(self) -> None:
        ends_s = Fraction(0) if self.last is None else self.last.ends_s or self.last.time_s
        reason = cut_off("picture", ends_s, self.stream)
        if reason:
            raise MediaError(reason)
