"""Checksums that files of tensors carry, compared while a file is read once from its beginning to its end.

torch's files are zip archives, which hold the CRC-32 of each of their parts. A safetensors file has none of its own; those of this program
carry a CRC-32 of all other bytes in their header. Any other file is unchecked.
"""

import errno
import json
import os
import re
import struct
import time
import zipfile
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mmaudio.base.errors import UserError
from mmaudio.files.atomic import text_hash

SAFETENSORS = ".safetensors"  # the suffix of such files; every other is one of torch
ENTRY = "checksum"  # in the metadata of a safetensors file
PLACEHOLDER = "crc32:00000000"  # what stands there until the file is complete
NO_ARCHIVE = "none"
_ARCHIVE = b"PK\x03\x04"  # how torch's files begin since its version 1.6
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # of an archive's part: the mark, and the lengths of its name and of what follows that
_CHECKSUM, _DIGITS = re.compile("crc32:[0-9a-f]{8}"), 8
_NO_ARCHIVE = (zipfile.BadZipFile, struct.error, NotImplementedError, ValueError, LookupError, EOFError, OverflowError)
_MOST_HEADER_BYTES = 10**8  # of a safetensors file, as its library has it
_BLOCK_BYTES = 1 << 22  # large enough to hand to threads, small enough for a cache
_REMEMBERED_BYTES = 1 << 24  # smaller files are read again: it costs nothing
_SETTLED_S = 2.0  # a file system's clock may tick slowly, so a file that was written just now may change under the same time


class DamagedFileError(UserError):
    """A file whose content is torn or not what its name says; another file may stand in for it."""


def damaged(path: Path) -> DamagedFileError:
    """The sentence for a file that cannot be read for what it holds; the library's own words are about its insides."""
    return DamagedFileError(f"{path} is no readable weights file: it is torn or of another kind; copy or download it anew")


class Digest(Protocol):
    """A hash of hashlib."""

    def update(self, block: memoryview, /) -> object: ...


@dataclass(frozen=True)
class Checksum:
    """The CRC-32 of one part of a file, whose bytes are in these spans (from, to), rising; `part` is empty for the whole file."""

    part: str
    spans: tuple[tuple[int, int], ...]
    crc32: int


# ---- What a file carries


def carried_checksums(path: Path) -> list[Checksum]:
    """What a file can be checked by; an empty list if by nothing. Reads its directory or header alone.

    Raises: DamagedFileError for a torn archive, OSError.
    """
    if path.suffix == SAFETENSORS:
        return _of_safetensors(path)
    with open(path, "rb") as file:
        return _of_archive(path) if file.read(len(_ARCHIVE)) == _ARCHIVE else []


def _entries(path: Path) -> list[zipfile.ZipInfo]:
    """The directory of an archive. Raises: DamagedFileError."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.infolist()
    except _NO_ARCHIVE:
        raise damaged(path) from None
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise damaged(path) from None  # it sends its reader to a place before its beginning


def _of_archive(path: Path) -> list[Checksum]:
    entries = _entries(path)
    if all(entry.CRC == 0 for entry in entries):  # written after torch.serialization.set_crc32_options(False)
        return []
    found = []
    with open(path, "rb") as file:
        last = os.fstat(file.fileno()).st_size - _LOCAL_HEADER.size
        for entry in entries:
            if not 0 <= entry.header_offset <= last or entry.compress_type != zipfile.ZIP_STORED:
                raise damaged(path)
            mark, *lengths = _LOCAL_HEADER.unpack(os.pread(file.fileno(), _LOCAL_HEADER.size, entry.header_offset))
            if mark != _ARCHIVE:
                raise damaged(path)
            start = entry.header_offset + _LOCAL_HEADER.size + sum(lengths)  # as torch finds a tensor
            found.append(Checksum(entry.filename, ((start, start + entry.file_size),), entry.CRC))
    found.sort(key=lambda each: each.spans)
    if any(after.spans[0][0] < before.spans[0][1] for before, after in zip(found, found[1:], strict=False)):
        raise damaged(path)
    return found


def _of_safetensors(path: Path) -> list[Checksum]:
    with open(path, "rb") as file:
        num_bytes, start = os.fstat(file.fileno()).st_size, 8  # where the header begins, after its length
        header = file.read(start)
        header = file.read(min(int.from_bytes(header, "little"), _MOST_HEADER_BYTES))
    try:
        content = json.loads(header)
        stated = content.pop("__metadata__")[ENTRY]
        end = max((tensor["data_offsets"][1] for tensor in content.values()), default=0)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return []  # no checksum, or no such file, as its library will find
    place = header.find(f'"{ENTRY}":"{stated}"'.encode())  # a quote inside of a string is escaped, so no other text can look like this
    if place < 0 or not _CHECKSUM.fullmatch(str(stated)):
        return []
    if start + len(header) + end != num_bytes:
        raise damaged(path)
    digits_end = start + place + len(f'"{ENTRY}":"{stated}')
    return [Checksum("", ((0, digits_end - _DIGITS), (digits_end, num_bytes)), int(stated[-_DIGITS:], 16))]


def state_checksum(path: Path) -> None:
    """Put the checksum of a safetensors file that was written with `ENTRY: PLACEHOLDER` in its metadata into its place."""
    (stated,) = _of_safetensors(path)
    with open(path, "r+b") as file:
        file.seek(stated.spans[0][1])
        file.write(f"{_crc32s(path, [stated])[0]:0{_DIGITS}x}".encode())


def content_id(path: Path) -> str:
    """What tells the tensors of one file of torch from those of another: a hash of its archive's sums. Reads no tensor.

    Returns: "archive:…", or NO_ARCHIVE for a file that is none, or cannot be read.
    """
    try:
        entries = _entries(path)
    except (DamagedFileError, OSError):
        return NO_ARCHIVE
    parts = ((entry.filename.partition("/")[2], entry) for entry in entries)  # the first part is what the file was called
    return "archive:" + text_hash(f"{name} {entry.file_size} {entry.CRC:08x}" for name, entry in parts if name.startswith("data"))


# ---- Comparing

_Stamp = tuple[int, ...]
_right: set[_Stamp] = set()  # files that this process read through, and found right
_verified: set[_Stamp] = set()  # files that were compared with a published checksum


def stamp(path: Path) -> _Stamp:
    """What changes when a file is written or replaced."""
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def note_verified(path: Path) -> None:
    """Note that a file, as it is now, has its published checksum."""
    _verified.add(stamp(path))


def is_verified(path: Path) -> bool:
    """Whether that was noted of the file as it is now."""
    return stamp(path) in _verified


def check_sums(path: Path) -> bool:
    """Read a file through and compare it with the checksums it carries; one that was right before and has not changed is not read again.

    Returns: whether it carries any.
    Raises: DamagedFileError naming the part whose checksum is wrong, OSError.
    """
    before = stamp(path)
    if before in _right:
        return True
    checksums = carried_checksums(path)
    if not checksums:
        return False
    wrong = _first_wrong(checksums, _crc32s(path, checksums))
    if wrong is None:
        _remember(before)
        return True
    if wrong.part:
        raise DamagedFileError(f"{path} is damaged: the checksum of its part {wrong.part} is wrong; take another one, or copy it anew")
    raise DamagedFileError(
        f"{path} is damaged, or was changed by another program: its checksum is wrong; take another one, or copy or export it anew"
    )


def digest_file(path: Path, digests: Sequence[Digest]) -> None:
    """Take hashes of all of a file; in the same reading, its own checksums are compared, so that `check_sums` need not read it again."""
    before = stamp(path)
    try:
        checksums = carried_checksums(path)
    except DamagedFileError:
        checksums = []  # whoever wants its tensors will say so
    if _first_wrong(checksums, _crc32s(path, checksums, digests)) is None and checksums:
        _remember(before)


def _first_wrong(checksums: Sequence[Checksum], found: Sequence[int]) -> Checksum | None:
    return next((each for each, crc32 in zip(checksums, found, strict=True) if each.crc32 != crc32), None)


def _remember(known: _Stamp) -> None:
    *_, num_bytes, modified_ns, changed_ns = known
    if num_bytes >= _REMEMBERED_BYTES and time.time_ns() - max(modified_ns, changed_ns) > _SETTLED_S * 1e9:
        _right.add(known)


def _crc32s(path: Path, checksums: Sequence[Checksum], digests: Sequence[Digest] = ()) -> list[int]:
    """Read a file once. Returns: the CRC-32 of each part; `digests` get all bytes, each in a thread of its own."""
    found = [0] * len(checksums)
    spans = sorted((*span, index) for index, each in enumerate(checksums) for span in each.spans if span[0] < span[1])
    block, offset, place = memoryview(bytearray(_BLOCK_BYTES)), 0, 0
    with open(path, "rb", buffering=0) as file, ThreadPoolExecutor(max(1, len(digests))) as threads:
        while num_bytes := file.readinto(block):
            running = [threads.submit(digest.update, block[:num_bytes]) for digest in digests]
            while place < len(spans):
                start, end, index = spans[place]
                within = block[max(0, start - offset) : max(0, min(num_bytes, end - offset))]
                found[index] = zlib.crc32(within, found[index])
                if end > offset + num_bytes:
                    break
                place += 1
            for each in running:
                each.result()
            offset += num_bytes
    return found
