"""A video's own picture with another sound: the same packets, not decoded and not encoded again."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy.typing as npt

from mmaudio.base.files import atomic_path
from mmaudio.media.aac import AacTrack
from mmaudio.media.audio import MediaError
from mmaudio.media.containers import clock_origin_s, of_known_tracks, opened_media, picture_of
from mmaudio.media.mp4 import CONTAINER_OPTIONS, comment_options

LONGEST_JUMP_S = 600  # time stamps that jump further are wrong
ANEW = "have the picture encoded anew: --reencode"

Packet = Any  # av.Packet, whose type has a parameter that says nothing here


def mux_sound(video_in: Path, wave: npt.ArrayLike, rate_hz: int, video_out: Path, comment: str = "") -> None:
    """Write a copy of a video whose picture packets are the same bytes and whose sound is `wave` (samples,), mono AAC.

    The wave's first sample is at the video's time 0; it is cut, or followed by silence, to the picture's end. Other tracks
    are left out, and `comment` goes into the container's metadata. (Broadcast formats and .avi mark the parts of H.264 in
    another way than an .mp4; there the parts are the same bytes.) Atomic.
    Raises: MediaError for a file that is missing, damaged, without picture, or with one an .mp4 cannot hold.
    """
    with opened_media(video_in) as source, atomic_path(video_out.absolute()) as temporary:  # "a:b.mp4" alone were a URL to FFmpeg
        picture = picture_of(source)
        name = picture.codec_context.codec.canonical_name  # the format's, where the decoder has a name of its own
        with av.open(str(temporary), "w", format="mp4", options=CONTAINER_OPTIONS) as container:
            if name not in container.supported_codecs:
                raise MediaError(f"its picture is {name}, which an .mp4 cannot hold; {ANEW}")
            container.metadata.update(comment_options(comment))
            copy = container.add_stream_from_template(picture, opaque=True)  # as it is, whether or not it could be encoded here
            _copy_picture(source, picture, container, copy, AacTrack(container, wave, rate_hz))


def _copy_picture(
    source: "av.container.InputContainer",
    picture: "av.VideoStream",
    container: "av.container.OutputContainer",
    copy: "av.VideoStream",
    sound: AacTrack,
) -> None:
    assert picture.time_base is not None
    origin = round(clock_origin_s(source) / picture.time_base)
    end_s = Fraction(0)
    for packet in _placed(of_known_tracks(source.demux(picture)), picture.codec_context.has_b_frames):
        packet.pts, packet.dts = packet.pts - origin, packet.dts - origin
        shown_until_s = (packet.pts + (packet.duration or 0)) * picture.time_base
        if shown_until_s > end_s + LONGEST_JUMP_S:
            raise MediaError(f"its time stamps jump by {float(shown_until_s - end_s):.0f} s")
        end_s = max(end_s, shown_until_s)
        decoded_s = packet.dts * picture.time_base
        packet.stream = copy
        container.mux(packet)
        sound.encode_until(decoded_s)
    if not end_s:
        raise MediaError("the file has no picture")
    sound.finish(round(end_s * sound.rate_hz))


def _placed(packets: Iterable[Packet], is_reordered: bool) -> Iterator[Packet]:
    """Pass on the packets that hold something, each with both time stamps. Raises: MediaError for one that nobody can place.

    Matroska says when a picture is shown and not when it is decoded; FFmpeg finds that out from the third or so on, by when
    the first, without which no other can be decoded, has passed.
    """
    early: list[Packet] = []  # no time of decoding yet
    for packet in packets:
        if packet.size == 0:  # the end of the stream
            continue
        if packet.pts is None and (is_reordered or packet.dts is None):
            raise MediaError(f"a part of its picture has no time stamp; {ANEW}")
        if packet.dts is None:
            early.append(packet)
            continue
        packet.pts = packet.dts if packet.pts is None else packet.pts
        yield from _decoded_before(packet.dts, early)
        early = []
        yield packet
    if early:
        yield from _decoded_before(early[-1].pts + 1, early)


def _decoded_before(next_dts: int, early: list[Packet]) -> list[Packet]:
    """Give packets times of decoding that rise to the next one's, and are not after those at which they are shown."""
    for packet in reversed(early):
        next_dts = packet.dts = min(packet.pts, next_dts - max(1, packet.duration or 0))
    return early
