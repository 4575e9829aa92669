"""A video kept as the decoder left it, for a device to size."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import av
import numpy as np
import torch
from av.sidedata.sidedata import SideDataContainer
from av.video.reformatter import ColorRange
from torch import Tensor

from mmaudio.base.specs import AudioSpec
from mmaudio.media.containers import opened_media
from mmaudio.media.device_resize import PictureLayout, Planes, scene_frames, sync_frames
from mmaudio.media.frame_selection import FramePicker
from mmaudio.media.frame_streams import OutputStream, PictureTrack, Shown
from mmaudio.media.video import VideoMedia, read_opened, read_video, training_pickers

# ---- The planes of decoded frames, copied as they are

FULL_RANGE_FORMAT = "yuvj420p"
FORMATS = ("yuv420p", FULL_RANGE_FORMAT)
MATRICES = {1: "bt709", 2: "bt601", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020"}  # H.273 codes; 2 is "not told", of any size


def picture_layout(frame: "av.VideoFrame") -> PictureLayout | None:
    """How to read the frame's planes, or None for one that has to be converted on the host.

    The host is left: other formats and depths, odd sides, frames to be turned or mirrored, interlaced ones (each field has
    its own chroma rows) and colour matrices that are rare, unknown or of no such picture.
    """
    matrix = MATRICES.get(int(frame.colorspace))
    is_plain = frame.format.name in FORMATS and frame.width % 2 == 0 and frame.height % 2 == 0 and not frame.interlaced_frame
    if matrix is None or not is_plain or _is_to_be_turned(frame):
        return None
    is_full_range = frame.format.name == FULL_RANGE_FORMAT or frame.color_range == ColorRange.JPEG
    return PictureLayout(frame.height, frame.width, matrix, is_full_range)


def _is_to_be_turned(frame: "av.VideoFrame") -> bool:
    # Not frame.side_data: the frame would keep that, and that the frame, so that both would stay in memory until the next
    # garbage collection, hundreds of frames in the meantime.
    return "DISPLAYMATRIX" in SideDataContainer(frame)  # type: ignore[call-arg]  # its stub leaves the argument out


def has_planes(frame: "av.VideoFrame") -> bool:
    """Whether `planes_of` may be asked for this frame."""
    return picture_layout(frame) is not None


def copy_planes_(packed_u8: Tensor, frame: "av.VideoFrame") -> None:
    """Fill (packed bytes,) uint8 in host memory from a frame that has planes, without what pads the decoder's lines.

    Raises: ValueError if the lengths differ.
    """
    if packed_u8.numel() != frame.height * frame.width * 3 // 2:
        raise ValueError(f"{packed_u8.numel()} bytes for planes of {frame.width} x {frame.height} pixels")
    target, start = packed_u8.numpy(), 0
    for plane in frame.planes:
        end = start + plane.height * plane.width
        lines = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
        target[start:end].reshape(plane.height, plane.width)[:] = lines[:, : plane.width]
        start = end


def planes_of(frame: "av.VideoFrame") -> Tensor:
    """The packed planes (bytes,) uint8 of a frame that has planes, in the order `Planes` wants them; a copy."""
    packed_u8 = torch.empty(frame.height * frame.width * 3 // 2, dtype=torch.uint8)
    copy_planes_(packed_u8, frame)
    return packed_u8


# ---- A video, read so

NewRoom = Callable[[int, int], Tensor]


@dataclass(frozen=True)
class PlanarMedia:
    """The planes of the frames that are used, and the wave (samples,)."""

    planes: Planes
    wave: Tensor | None

    def frames_on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Scene and synchronisation frames, computed on the device: what the host makes of them, level by level."""
        planes = self.planes.to(device, non_blocking=True)
        return scene_frames(planes), sync_frames(planes)

    def pin_memory(self) -> "PlanarMedia":
        """The same in page-locked memory, from where a GPU fetches while it computes."""
        planes = replace(self.planes, packed=self.planes.packed.pin_memory())
        return PlanarMedia(planes, None if self.wave is None else self.wave.pin_memory())


class _NeedsHostError(Exception):
    """The picture, or a frame of it, is of a kind that is converted on the host."""


class _Room:
    """The frames that are used, each once, packed one after the other."""

    def __init__(self, max_frames: int, new_room: NewRoom) -> None:
        self.max_frames, self.new_room = max_frames, new_room
        self.layout: PictureLayout | None = None
        self.packed = torch.empty(0, 0, dtype=torch.uint8)
        self.num_frames = 0
        self.last: Shown | None = None

    def place_of(self, shown: Shown) -> int:
        """Where a frame lies; both streams ask for the same ones, in order of time."""
        if shown is self.last:
            return self.num_frames - 1
        layout = picture_layout(shown.frame)
        if layout is None or self.layout not in (None, layout):
            raise _NeedsHostError
        if self.layout is None:
            self.layout, self.packed = layout, self.new_room(self.max_frames, layout.packed_bytes)
        copy_planes_(self.packed[self.num_frames], shown.frame)
        self.num_frames, self.last = self.num_frames + 1, shown
        return self.num_frames - 1


class _Index(OutputStream):
    """Where the frames of a stream lie in a room."""

    def __init__(self, picker: FramePicker, room: _Room) -> None:
        super().__init__(picker)
        self.room = room
        self.places: list[int] = []

    def _add(self, shown: Shown, num_times: int) -> None:
        self.places += [self.room.place_of(shown)] * num_times


def pageable_room(num_frames: int, packed_bytes: int) -> Tensor:
    """Memory for planes, (frames, packed bytes) uint8, as it comes; only what is filled takes any."""
    return torch.empty(num_frames, packed_bytes, dtype=torch.uint8)


def read_planar_video(
    path: Path, spec: AudioSpec, *, with_sound: bool, normalise: bool = True, frame_rule: str = "exact", new_room: NewRoom = pageable_room
) -> PlanarMedia | VideoMedia:
    """As `read_video`, but only decoded, where a device can do the rest with the same outcome; other files are read as there.

    Args:
        new_room: memory (frames, packed bytes) uint8 for the most frames that a clip can use.
    """
    clip, sync = training_pickers(spec, frame_rule)
    room = _Room(spec.num_clip_frames + spec.num_sync_frames, new_room)
    try:
        with opened_media(path) as container:
            picture = PictureTrack(container, _Index(clip, room), _Index(sync, room))
            wave = read_opened(container, picture, spec, with_sound=with_sound, normalise=normalise)
    except _NeedsHostError:
        return read_video(path, spec, with_sound=with_sound, normalise=normalise, frame_rule=frame_rule)
    assert room.layout is not None  # `finish` rejects a picture without frames
    scene_index, sync_index = (torch.tensor(index.places, dtype=torch.int64) for index in (picture.clip, picture.sync))
    return PlanarMedia(Planes(room.packed[: room.num_frames], room.layout, scene_index, sync_index), wave)
