"""Media files damaged at random but beyond repair, by how they are damaged: each kind with what is then true of the file.

A random bit may do no harm, and such files are none for a test that counts rejects. So what is hit is always something that
no reader can do without: an index, a header, a length, a stretch of the payload in the seconds that are wanted.
"""

import io
import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import av
import numpy as np
import soundfile

Make = Callable[[bytes, random.Random], bytes]
NO_MEDIA = "^not a media file, or cut off before its index"
DAMAGED = "^(the file is damaged|the picture is damaged at|the sound is damaged at)"
CUT = f"{DAMAGED}|^the file is cut off: its |^too short: |^the sound track is empty"
NOT_THERE = "^the file has no (picture|sound)|^its (picture|sound) is in a format that cannot be decoded here"
ANY = f"{NO_MEDIA}|{CUT}|{NOT_THERE}|believed$|^the sound (has a gap|changes)|time stamp"
NO_AUDIO = "not readable as audio: "
TORN = "the audio is damaged: |the file is truncated: |more than its [0-9]+ bytes can hold"


@dataclass(frozen=True)
class Damage:
    """A kind of damage: what it is made of, how, and which reason (a pattern) is then a true one."""

    of: str
    make: Make
    reason: str


def png() -> bytes:
    """A picture of one grey pixel."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\x00\x80")) + chunk(b"IEND", b"")


def sound(kind: str, seconds: float = 2.0, subtype: str = "PCM_16", seed: int = 0) -> bytes:
    """Noise at 16 kHz."""
    file = io.BytesIO()
    wave = np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * 16_000)).astype(np.float32)
    soundfile.write(file, wave, 16_000, format=kind, subtype=subtype)
    return file.getvalue()


def with_bytes(content: bytes, at: int, value: bytes) -> bytes:
    return content[:at] + value + content[at + len(value) :]


def flipped(content: bytes, at: int, draw: random.Random) -> bytes:
    return with_bytes(content, at, bytes([content[at] ^ 1 << draw.randrange(8)]))


def flip(name: bytes) -> Make:
    """One bit of a name."""
    return lambda content, draw: flipped(content, content.index(name) + draw.randrange(len(name)), draw)


def flip_many(first: bytes, last: bytes | None, share: float) -> Make:
    """A bit of so many bytes between two names (None: to the end)."""

    def make(content: bytes, draw: random.Random) -> bytes:
        start, end = content.index(first), len(content) if last is None else content.index(last)
        for at in draw.sample(range(start, end), round(share * (end - start))):
            content = flipped(content, at, draw)
        return content

    return make


def place(content: bytes, name: bytes, track: int = 0) -> int:
    """Where the content of a box of an .mp4 begins, of the first or second track (the picture, and the sound)."""
    at = content.index(name, content.index(b"moov"))
    return (content.index(name, at + 1) if track else at) + len(name)


def patch(name: bytes, offset: int, value: Callable[[random.Random], bytes], track: int = 0) -> Make:
    return lambda content, draw: with_bytes(content, place(content, name, track) + offset, value(draw))


def rename(old: bytes, new: bytes) -> Make:
    return lambda content, draw: content.replace(old, new)


def chain(*makes: Make) -> Make:
    def make(content: bytes, draw: random.Random) -> bytes:
        for each in makes:
            content = each(content, draw)
        return content

    return make


def wild(low: int, high: int) -> Callable[[random.Random], bytes]:
    return lambda draw: struct.pack(">I", draw.randrange(low, high))


def cut(after: bytes, low: float, high: float) -> Make:
    """Keep so much of what comes after a name."""

    def make(content: bytes, draw: random.Random) -> bytes:
        start = content.index(after) + len(after)
        return content[: start + int(draw.uniform(low, high) * (len(content) - start))]

    return make


def random_from(after: bytes, low: float, high: float) -> Make:
    """Random bytes from somewhere after a name to the end."""

    def make(content: bytes, draw: random.Random) -> bytes:
        kept = cut(after, low, high)(content, draw)
        return kept + draw.randbytes(len(content) - len(kept))

    return make


def packets(content: bytes, kind: str) -> list[tuple[int, int]]:
    """(place in the file, length) of each packet."""
    with av.open(io.BytesIO(content)) as container:
        return [(p.pos, p.size) for p in container.demux(**{kind: 0}) if p.pos is not None and p.size]


def break_lengths(content: bytes, draw: random.Random) -> bytes:
    """The length that each packet of H.264 begins with is beyond the packet."""
    for at, _ in packets(content, "video"):
        content = with_bytes(content, at, bytes([content[at] | 1 << draw.randrange(4, 8)]))
    return content


def shorten_slice(content: bytes, draw: random.Random) -> bytes:
    """The second half of one picture is declared to be filler: the decoder makes it up, and goes on without an error."""
    at, left = draw.choice([packet for packet in packets(content, "video")[:12] if packet[1] > 60])
    while content[at + 4] & 31 not in (1, 5):  # what else comes with the picture
        unit = 4 + struct.unpack_from(">I", content, at)[0]
        at, left = at + unit, left - unit
    half = (left - 4) // 2
    filler = struct.pack(">I", left - 8 - half) + b"\x0c" + b"\xff" * (left - 10 - half) + b"\x80"
    return with_bytes(with_bytes(content, at, struct.pack(">I", half)), at + 4 + half, filler)


def random_sound(content: bytes, draw: random.Random) -> bytes:
    for at, length in packets(content, "audio"):
        content = with_bytes(content, at, draw.randbytes(length))
    return content


def index_last(content: bytes, draw: random.Random) -> bytes:
    """The index is moved behind the payload, and goes on naming the places from before."""
    index, payload = content.index(b"moov") - 4, content.index(b"mdat") - 4
    return content[:index] + content[payload:] + content[index:payload]


def swap_halves(content: bytes, draw: random.Random) -> bytes:
    start = content.index(b"mdat") + 4
    middle = start + int(draw.uniform(0.3, 0.7) * (len(content) - start))
    return content[:start] + content[middle:] + content[start:middle]


def huge_jpegs(content: bytes, draw: random.Random) -> bytes:
    """Every picture says that it is of so many pixels."""
    frame = b"\xff\xc0\x00\x11\x08"
    parts, sides = content.split(frame), struct.pack(">HH", draw.randrange(9000, 65500), draw.randrange(9000, 65500))
    return frame.join([parts[0], *(sides + part[4:] for part in parts[1:])])


def infinite(content: bytes, draw: random.Random) -> bytes:
    """One sample of a file of 32-bit floats."""
    start = content.index(b"data") + 8
    at = start + 4 * draw.randrange((len(content) - start) // 4)
    return with_bytes(content, at, struct.pack("<f", draw.choice([np.nan, np.inf, -np.inf])))


def flip_in_frames(content: bytes, draw: random.Random) -> bytes:
    """A single bit of the sound of a .flac: every frame has a checksum."""
    return flipped(content, draw.randrange(len(content) // 4, len(content)), draw)


VIDEO_DAMAGES = (
    Damage("mp4", lambda content, draw: b"", r"^the file is empty \(0 bytes\)"),
    Damage("mp4", lambda content, draw: bytes(draw.randrange(1, 20_000)), NO_MEDIA),
    Damage("mp4", lambda content, draw: draw.randbytes(draw.randrange(1, 20_000)), f"{NO_MEDIA}|{DAMAGED}|no picture"),
    Damage("mp4", lambda content, draw: b"<html>404</html>\n" * draw.randrange(1, 400), NO_MEDIA),
    Damage("mp4", lambda content, draw: png() + bytes(draw.randrange(400)), NO_MEDIA),
    Damage("mp4", lambda content, draw: sound("WAV", draw.uniform(0.1, 2)), "^the file has no picture"),
    Damage("mp4", lambda content, draw: sound("FLAC", draw.uniform(0.1, 2)), "^the file has no picture"),
    Damage("mp4", lambda content, draw: content[:12] + draw.randbytes(2000), f"{NO_MEDIA}|{DAMAGED}"),
    Damage("mp4", flip(b"moov"), NO_MEDIA),
    Damage("mp4", flip_many(b"moov", b"mdat", 0.2), ANY),
    Damage("mp4", lambda content, draw: content[: draw.randrange(8, content.index(b"mdat") - 8)], ANY),
    Damage("mp4", cut(b"mdat", 0.0, 0.5), CUT),
    Damage("mp4", chain(cut(b"mdat", 0.0, 0.5), lambda content, draw: content * 2), CUT),
    Damage("mp4", lambda content, draw: draw.randbytes(draw.randrange(1, 3000)) + content, ANY),
    Damage("mp4", rename(b"avc1", b"zzz1"), "^its picture is in a format that cannot be decoded here"),
    Damage("mp4", chain(rename(b"mp4a", b"zzz1"), rename(b"esds", b"free")), "^its sound is in a format that cannot be decoded here"),
    Damage("mp4", patch(b"trak", -4, lambda draw: b"free"), "^the file has no picture"),
    Damage("mp4", patch(b"trak", -4, lambda draw: b"free", track=1), "^the file has no sound"),
    Damage("mp4", patch(b"mdhd", 12, wild(0, 25)), CUT),  # ticks a second of the picture's clock
    Damage("mp4", patch(b"stts", 12, wild(1 << 24, 1 << 31)), CUT),  # ticks from picture to picture
    Damage("mp4", patch(b"stts", 12, wild(1 << 27, 1 << 31), track=1), f"^the sound has a gap|{CUT}"),
    Damage("mp4", patch(b"stsz", 8, wild(1 << 24, 1 << 32)), ANY),  # how many pictures there are
    Damage("mp4", patch(b"stsc", 4, lambda draw: bytes(4)), ANY),  # how they lie in chunks
    Damage("mp4", patch(b"stco", 8, lambda draw: draw.randbytes(4) * 4), CUT),  # where the chunks lie
    Damage("mp4", break_lengths, DAMAGED),
    Damage("mp4", shorten_slice, r"^the picture is damaged at 0\.\d\d s"),
    Damage("mp4", random_sound, DAMAGED),
    Damage("mp4", random_from(b"mdat", 0.0, 0.5), DAMAGED),
    Damage("mp4", flip_many(b"mdat", None, 0.1), CUT),
    Damage("mp4", index_last, CUT),
    Damage("mp4", swap_halves, DAMAGED),
    Damage("mkv", cut(b"\x1f\x43\xb6\x75", 0.0, 0.5), CUT),
    Damage("mkv", lambda content, draw: flipped(content, draw.randrange(4), draw), NO_MEDIA),
    Damage("mkv", rename(b"V_MPEG4/ISO/AVC", b"V_MPEG5/ABC/ABC"), "^its picture is in a format that cannot be decoded here"),
    Damage("mkv", rename(b"A_AAC", b"A_XXX"), "^its sound is in a format that cannot be decoded here"),
    Damage("mkv", random_from(b"\x1f\x43\xb6\x75", 0.0, 0.4), CUT),
    Damage("jpegs", huge_jpegs, DAMAGED),
)

SOUND_DAMAGES = (
    Damage("flac", lambda content, draw: content[: draw.randrange(16)], "the file is empty"),
    Damage("wav", lambda content, draw: bytes(draw.randrange(16, 9000)), NO_AUDIO),
    Damage("flac", lambda content, draw: draw.randbytes(draw.randrange(16, 9000)), NO_AUDIO),
    Damage("wav", lambda content, draw: b"<html>404</html>\n" * draw.randrange(1, 400), NO_AUDIO),
    Damage("flac", lambda content, draw: png(), NO_AUDIO),
    Damage("flac", flip(b"fLaC"), NO_AUDIO),
    Damage("flac", lambda content, draw: content[: draw.randrange(16, 42)], NO_AUDIO),  # within its header
    Damage("flac", lambda content, draw: with_bytes(content, 18, bytes(3)), f"{NO_AUDIO}|{TORN}"),  # its rate
    Damage("flac", lambda content, draw: with_bytes(content, 22, draw.randbytes(4)), TORN),  # how many samples it has
    Damage("flac", lambda content, draw: with_bytes(content, 21, bytes([content[21] & 240]) + bytes(4)), "leaves out the length"),
    Damage("flac", lambda content, draw: content[: int(draw.uniform(0.1, 0.9) * len(content))], TORN),
    Damage("flac", flip_in_frames, TORN),
    Damage("flac", lambda content, draw: content[: len(content) // 2] + draw.randbytes(len(content) // 2), TORN),
    Damage("wav", flip(b"RIFF"), NO_AUDIO),
    Damage("wav", flip(b"fmt "), NO_AUDIO),
    Damage("wav", flip(b"data"), NO_AUDIO),
    Damage("wav", lambda content, draw: with_bytes(content, 22, bytes(2)), NO_AUDIO),  # how many channels it has
    Damage("wav", lambda content, draw: with_bytes(content, 24, struct.pack("<I", draw.randrange(1 << 21, 1 << 31))), "believed$"),
    Damage("wav", lambda content, draw: content[: draw.randrange(50, 30_000)], "want at least"),
    Damage("wav", lambda content, draw: content[:44] + bytes(len(content) - 44), "^silent: "),
    Damage("floats", infinite, "^the audio holds samples that are not finite numbers"),
)
