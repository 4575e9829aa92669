"""Checksums of weight files: computed once, remembered beside the file, compared with what was published."""

import errno
import hashlib
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mmaudio.base.errors import UserError
from mmaudio.files.atomic import parse_json, write_json
from mmaudio.files.checksums import digest_file, note_verified
from mmaudio.weights.catalogue import CATALOGUE

log = logging.getLogger(__name__)
MD5 = "md5:"
_NO_WRITING = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Fingerprint:
    """Checksums of a file as it was at a size and a time of change; `expected` is what its source said it should be."""

    size_bytes: int
    mtime_ns: int
    sha256: str
    md5: str | None = None  # taken only where that was published: it is slow
    expected: str | None = None  # "md5:…" or "sha256:…"

    def can_answer(self, expected: str | None) -> bool:
        """Whether it holds what that is to be compared with."""
        return self.md5 is not None or not (expected or "").startswith(MD5)


def _record(path: Path) -> Path:
    return path.with_name(f".{path.name}.checksum.json")


def _read_record(path: Path) -> Fingerprint | None:
    """What is remembered of `path`, be it still so or not."""
    try:
        return Fingerprint(**parse_json(_record(path).read_text()))
    except (OSError, ValueError, TypeError):  # none, half written by something else, or of another version: computed again
        return None


def remembered(path: Path) -> Fingerprint | None:
    """The fingerprint of `path` if it was taken before and the file has not changed since; reads no content."""
    kept, now = _read_record(path), path.stat()
    return kept if kept and (kept.size_bytes, kept.mtime_ns) == (now.st_size, now.st_mtime_ns) else None


def remember(path: Path, taken: Fingerprint) -> None:
    """Keep a fingerprint beside its file. In a folder that takes no writing it is not kept, and computed again next time."""
    try:
        write_json(_record(path), {name: value for name, value in asdict(taken).items() if value is not None})
    except OSError as error:
        if error.errno not in _NO_WRITING:
            raise
        log.debug("the checksum of %s is not kept: %s", path, error.strerror)


def forget(path: Path) -> None:
    """Drop what is remembered of `path`."""
    _record(path).unlink(missing_ok=True)


def read_fingerprint(path: Path, expected: str | None = None) -> Fingerprint:
    """Compute what `expected` is to be compared with, and the SHA-256, in one reading of the file."""
    before = path.stat()
    digests: Mapping[str, Any] = {"sha256": hashlib.sha256()}
    if (expected or "").startswith(MD5):
        digests = {**digests, "md5": hashlib.md5(usedforsecurity=False)}
    digest_file(path, list(digests.values()))
    return Fingerprint(before.st_size, before.st_mtime_ns, **{name: digest.hexdigest() for name, digest in digests.items()})


def file_fingerprint(path: Path, expected: str | None = None, *, anew: bool = False) -> Fingerprint:
    """The fingerprint of `path`, to compare with `expected`: the remembered one, or computed (always if `anew`) and remembered."""
    known = remembered(path)
    if known is not None and not anew and known.can_answer(expected):
        return known
    log.info("computing the checksum of %s, %.0f MB", path, path.stat().st_size / 1e6)
    kept = _read_record(path)
    taken = replace(read_fingerprint(path, expected), expected=kept.expected if kept else None)
    now = path.stat()
    if (now.st_size, now.st_mtime_ns) == (taken.size_bytes, taken.mtime_ns) and taken != known:  # it was not written to meanwhile
        remember(path, taken)
    return taken


def _git_blob(path: Path) -> str:
    """The name git gives a file's content, which is the hub's ETag of small files."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def contradiction(path: Path, taken: Fingerprint, expected: str | None) -> str | None:
    """In words, how a file differs from `expected` ("md5:…", "sha256:…" or "git:…"); None if it does not, or None is known.

    `taken` can answer that. One that does not differ needs no checksum of its own.
    """
    if expected is None:
        return None
    kind, _, wanted = expected.partition(":")
    found = {"md5": taken.md5, "sha256": taken.sha256}.get(kind) or _git_blob(path)
    if found != wanted:
        return f"its {kind} checksum is {found}; want {wanted}"
    note_verified(path)
    return None


def expected_checksum(path: Path, published: str | None) -> str | None:
    """What the file at `path` should have: the published checksum, or what its source said when it was fetched."""
    kept = _read_record(path)
    return published or (kept.expected if kept else None)


def checksum(path: Path) -> str:
    """ "sha256:…" of a file, or of the weight files of a folder together; computed once and remembered beside each file.

    The same content gives the same text wherever it lies. Of a folder count the files of the catalogue's row that it
    holds whole, or else all its files that are not hidden.

    Raises: UserError where nothing is at `path`, or the folder is empty.
    """
    if path.is_file():
        return f"sha256:{file_fingerprint(path).sha256}"
    rows = (row for row in CATALOGUE.values() if row.subfolder)
    members = next((list(found.values()) for row in rows if len(found := row.found_in(path)) == len(row.files)), None)
    if members is None and path.is_dir():
        members = sorted(Path(entry.path) for entry in os.scandir(path) if entry.is_file() and not entry.name.startswith("."))
    if not members:
        raise UserError(f"no weight file at {path}, so it has no checksum; name a file, or a folder of files")
    lines = sorted(f"{member.name} {file_fingerprint(member).sha256}\n" for member in members)
    return f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"
