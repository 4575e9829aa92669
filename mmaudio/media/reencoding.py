"""A video's picture encoded anew as H.264, which any .mp4 holds and any player shows, with another sound."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import VideoReformatter

from mmaudio.files.atomic import atomic_path
from mmaudio.media.audio import MediaError
from mmaudio.media.containers import clock_origin_s, decode_tracks, opened_media, picture_of
from mmaudio.media.frame_streams import upright_rgb
from mmaudio.media.mp4 import CONTAINER_OPTIONS, AacTrack, add_h264, comment_options

USUAL_FPS = 25  # where a file does not say


def even_sides(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Pixels (height, width, channels) with the last row or column twice where there is an odd number of them."""
    height, width = pixels.shape[:2]
    return np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


class _Recoder:
    """Takes the decoded frames of a track, in order, and hands them to an encoder at the times they have."""

    def __init__(
        self, source: "av.container.InputContainer", container: "av.container.OutputContainer", wave: npt.ArrayLike, rate_hz: int
    ) -> None:
        self.stream = picture_of(source)
        self.origin_s = clock_origin_s(source)
        self.container, self.wave, self.rate_hz = container, wave, rate_hz
        self.reformatter = VideoReformatter()
        self.video: av.VideoStream | None = None
        self.sound: AacTrack | None = None
        self.last_pts, self.end_s = -1, Fraction(0)

    @property
    def is_done(self) -> bool:
        return False

    def take(self, frame: "av.VideoFrame") -> None:
        """Encode a decoded frame and the sound up to it. Raises: MediaError for a frame without a time stamp."""
        if frame.pts is None or frame.time_base is None:
            raise MediaError("a frame has no time stamp")
        assert self.stream.time_base is not None
        pts = frame.pts - round(self.origin_s / self.stream.time_base)
        if pts <= self.last_pts:  # before time 0, or shown together with one that is there
            return
        self.last_pts = pts
        self.end_s = (pts + (frame.duration or 0)) * self.stream.time_base
        ready = self._ready(frame)
        ready.pts, ready.time_base, ready.pict_type = pts, self.stream.time_base, av.video.frame.PictureType.NONE
        assert self.video is not None
        assert self.sound is not None
        self.container.mux(self.video.encode(ready))
        self.sound.encode_until(pts * self.stream.time_base)

    def _ready(self, frame: "av.VideoFrame") -> "av.VideoFrame":
        """Upright, with even sides, of the size and kind of the first."""
        if frame.rotation or frame.width % 2 or frame.height % 2:
            pixels = even_sides(upright_rgb(frame, self.reformatter).permute(1, 2, 0).numpy())
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        if self.video is None:
            self.video = self._start(frame.width, frame.height)
            self.sound = AacTrack(self.container, self.wave, self.rate_hz)
        return frame.reformat(width=self.video.width, height=self.video.height, format="yuv420p", threads=1)

    def _start(self, width: int, height: int) -> "av.VideoStream":
        video = add_h264(self.container, width, height, self.stream.average_rate or USUAL_FPS)
        assert self.stream.time_base is not None
        video.codec_context.time_base = self.stream.time_base  # of which frames that come unevenly are multiples
        shape = self.stream.sample_aspect_ratio
        is_as_it_was = (width, height) == (self.stream.width, self.stream.height)
        if shape and is_as_it_was:
            video.codec_context.sample_aspect_ratio = shape
        return video

    def finish(self) -> None:
        """Encode what is left, once all frames were taken. Raises: MediaError if there was none."""
        if self.video is None or self.sound is None:
            raise MediaError("the file has no picture")
        self.container.mux(self.video.encode(None))
        self.sound.finish(max(1, round(self.end_s * self.sound.rate_hz)))


def reencode_with_sound(video_in: Path, wave: npt.ArrayLike, rate_hz: int, video_out: Path, comment: str = "") -> None:
    """Write an .mp4 whose picture is that of a video, decoded, upright and encoded anew, and whose sound is `wave` (samples,).

    H.264, yuv420p; frames keep their times, those before time 0 are left out, and odd sides grow by one. The wave's first
    sample is at the video's time 0; it is cut, or followed by silence, to the picture's end. `comment` goes into the container's
    metadata. Atomic.
    Raises: MediaError for a file that is missing, damaged, or without picture.
    """
    with (
        opened_media(video_in) as source,
        atomic_path(video_out.absolute()) as temporary,
        av.open(str(temporary), "w", format="mp4", options=CONTAINER_OPTIONS) as container,
    ):
        container.metadata.update(comment_options(comment))
        recoder = _Recoder(source, container, wave, rate_hz)
        decode_tracks(source, [recoder])
        recoder.finish()
