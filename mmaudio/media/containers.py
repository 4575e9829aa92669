"""Media opened for reading, tracks decoded in one pass."""

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any, Protocol, TypeVar

import av
import av.codec.codec
import av.stream

from mmaudio.media.audio import MediaError, no_regular_file

# ---- What the FFmpeg that PyAV brings along can read and write

READ = ("h264", "hevc", "mpeg4", "vp8", "vp9", "aac", "mp3", "flac", "opus", "vorbis", "pcm_s16le")
WRITTEN = ("libx264", "aac")  # of the .mp4 files that are made


def missing_codecs() -> list[str]:
    """Those that are not there, as words of a sentence: `h264 (to read)`."""
    return [
        f"{name} (to {'read' if mode == 'r' else 'write'})"
        for mode, names in (("r", READ), ("w", WRITTEN))
        for name in names
        if not _is_there(name, mode)
    ]


def _is_there(name: str, mode: str) -> bool:
    try:
        av.Codec(name, "r" if mode == "r" else "w")
    except av.codec.codec.UnknownCodecError:
        return False
    return True


# ---- Media opened, and tracks decoded in one pass

AnyStream = TypeVar("AnyStream", bound=av.stream.Stream)
Item = TypeVar("Item")
FORMATS = "mov,matroska,avi,mpegts,mpeg,flv,asf,mxf,ogg,ivf,gif,mp3,aac,flac,wav"  # no lists of other files, which may name themselves
FORMATS_WITH_ANY_ORIGIN = ("mpegts", "mpeg")  # broadcast formats: their clock starts anywhere
DISK_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)  # of where a copy is written, not of the file that is read
MEANT_BY_FFMPEG = {  # its words for these are about something else
    errno.EAGAIN: "it cannot be decoded",
    errno.EPERM: "it cannot be decoded",
    errno.ENOMEM: "it asks for more memory than can be had",
}
WITH_CHECKSUMS = ("flac", "ac3", "eac3")  # sound whose every frame says what its bytes add up to; only on request is that looked at
LARGEST_PICTURE_PX = 1 << 26  # twice 8K; the largest that FFmpeg would decode take gigabytes
NARROWEST_PICTURE = 64  # times as long as wide: to be cut to a square, such a one is made that much larger before
CUT_OFF_S = 0.5  # a track that ends this much before its header says was cut off


@contextmanager
def opened_media(path: Path) -> "Iterator[av.container.InputContainer]":
    """Open a file. Raises: MediaError for one that is missing, may not be read, is empty, no media, or damaged where it is read."""
    _check_readable(path)
    try:
        container = av.open(str(path.absolute()), metadata_errors="replace", options={"format_whitelist": FORMATS})
    except av.FFmpegError as error:
        raise MediaError(f"not a media file, or cut off before its index ({_words(error)})") from None
    with container:
        try:
            yield container
        except av.FFmpegError as error:
            if error.errno in DISK_FAULTS:
                raise
            raise MediaError(f"the file is damaged ({_words(error)})") from None


def _words(error: av.FFmpegError) -> str:
    return MEANT_BY_FFMPEG.get(error.errno or 0, str(error.strerror))


def _check_readable(path: Path) -> None:
    """Look before opening: a pipe that nobody writes to would be waited for."""
    try:
        mode = path.stat().st_mode
        if S_ISDIR(mode):
            raise MediaError(f"no file at {path}")
        if not S_ISREG(mode):
            raise no_regular_file(path)
        with path.open("rb") as file:
            is_empty = not file.read(1)
    except (FileNotFoundError, NotADirectoryError):
        raise MediaError(f"no file at {path}") from None
    except OSError as error:
        raise MediaError(f"the file cannot be read ({error.strerror})") from None
    if is_empty:
        raise MediaError("the file is empty (0 bytes)")


def clock_origin_s(container: "av.container.InputContainer") -> Fraction:
    """The time in the file's clock that is our time 0."""
    if container.format.name not in FORMATS_WITH_ANY_ORIGIN or container.start_time is None:
        return Fraction(0)
    return Fraction(container.start_time, av.time_base)


def _decodable(stream: AnyStream, what: str) -> AnyStream:
    if stream.codec_context is None:
        raise MediaError(f"its {what} is in a format that cannot be decoded here")
    return stream


def picture_of(container: "av.container.InputContainer") -> "av.VideoStream":
    """The first moving picture. Raises: MediaError if there is none, or none that can be decoded, or one of wild size."""
    moving = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]  # no cover art
    if not moving:
        raise MediaError("the file has no picture")
    picture = _decodable(moving[0], "picture")
    check_sides(picture.width, picture.height)
    return picture


def check_picture(path: Path) -> None:
    """Raises: MediaError for a file that has no moving picture, or none whose first frame can be decoded."""
    with opened_media(path) as container:
        if next(of_known_tracks(container.decode(picture_of(container))), None) is None:
            raise MediaError("not one frame of its picture can be decoded")


def check_sides(width: int, height: int) -> None:
    """Raises: MediaError for a picture of wild size, as damaged headers tell; 0 x 0 is a picture not yet seen."""
    if width * height > LARGEST_PICTURE_PX or max(width, height) > NARROWEST_PICTURE * min(width, height):
        raise MediaError(f"its picture is {width} x {height} pixels, which is none to be believed")


def sound_of(container: "av.container.InputContainer") -> "av.AudioStream":
    """The first sound track. Raises: MediaError if there is none, or none that can be decoded."""
    if not container.streams.audio:
        raise MediaError("the file has no sound")
    return _decodable(container.streams.audio[0], "sound")


def cut_off(what: str, ends_s: Fraction, stream: av.stream.Stream) -> str:
    """Say that a track, read to its end, ends before the header says, or "" where it does not."""
    if stream.duration is None or stream.time_base is None:
        return ""
    promised_s = float(((stream.start_time or 0) + stream.duration) * stream.time_base)
    if ends_s > promised_s - CUT_OFF_S:
        return ""
    return f"the file is cut off: its {what} ends after {float(ends_s):.2f} of {promised_s:.2f} s"


def of_known_tracks(items: Iterator[Item]) -> Iterator[Item]:
    """Pass on what a container yields. PyAV has no place for a track that appears halfway. Raises: MediaError for one."""
    try:
        yield from items
    except IndexError:
        raise MediaError("the file is damaged (another track appears halfway)") from None


class Track(Protocol):
    """What becomes of one stream of a file: it takes the decoded frames in order, until it is done."""

    stream: Any  # of a container that is open

    @property
    def is_done(self) -> bool:
        """Nothing later in the stream is wanted."""

    def take(self, frame: Any) -> None:
        """Use one decoded frame. Raises: MediaError for one that cannot be used."""


def decode_tracks(container: "av.container.InputContainer", tracks: Sequence[Track]) -> None:
    """Read the file once, and hand every track its frames, until all are done or the file ends.

    Streams that no track wants, or wants no more, are skipped instead of read. All is decoded in this thread: files are
    read in parallel.
    """
    track_of = {track.stream.index: track for track in tracks}
    for stream in container.streams:
        stream.discard = av.stream.Discard.none if stream.index in track_of else av.stream.Discard.all
    for track in tracks:
        decoder = track.stream.codec_context
        decoder.thread_count = 1
        decoder.options = {"max_pixels": str(LARGEST_PICTURE_PX)}
        if decoder.name in WITH_CHECKSUMS:
            decoder.options |= {"err_detect": "crccheck+explode"}
    for packet in of_known_tracks(container.demux([track.stream for track in tracks])):
        _decode(packet, track_of[packet.stream.index])
        if all(track.is_done for track in tracks):
            return


def _decode(packet: "av.Packet[Any]", track: Track) -> None:
    if track.is_done:  # a packet that was waiting when its stream was discarded
        return
    for frame in packet.decode():
        track.take(frame)
        if track.is_done:
            track.stream.discard = av.stream.Discard.all
            return
