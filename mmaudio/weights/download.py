"""One file over HTTP into a partial file, which a later try, or a later process, goes on from."""

import http.client
import logging
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from mmaudio import __version__
from mmaudio.base.errors import UserError
from mmaudio.base.logs import progress
from mmaudio.files.atomic import parse_json, write_json
from mmaudio.files.ownership import move_aside

log = logging.getLogger(__name__)
TIMEOUT_S = 10.0  # without a byte; another try then goes on
TRIES = 3  # in a row that brought nothing new
WAIT_S = 1.0  # between two tries
_BLOCK_BYTES = 1 << 20
_PASSING = (408, 425, 429)  # answers that another try may change, besides 5xx


@dataclass(frozen=True)
class Remote:
    """A file on a server."""

    url: str
    expected: str | None = None  # checksum, "md5:…", "sha256:…" or "git:…"
    identity: str | None = None  # names the content, where the server tells it beforehand
    authorization: str | None = None  # header, for the first server only, not those it sends us on to

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc


class DownloadError(Exception):
    """What a server or the network did, in words. What had come is kept."""


class _CutError(Exception):
    """This try is over; another one may go on."""


def _notes(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.json")


def discard(partial: Path) -> None:
    """Remove a partial file and what is noted about it; what this program did not write there is moved aside, and said."""
    notes = _notes(partial)
    is_ours = _known(partial) is not None
    for path in (partial, notes):
        if path.is_symlink():
            path.unlink()  # what it leads to stays as it is
        elif is_ours:
            path.unlink(missing_ok=True)
        elif path.exists():
            move_aside(path)


def _known(partial: Path) -> tuple[str, str] | None:
    """What a partial file is of, and the ETag it came with, as this program noted it; None where it did not. Links are not followed."""
    notes = _notes(partial)
    if notes.is_symlink() or partial.is_symlink():
        return None
    try:
        content = parse_json(notes.read_text())
        of, etag = content["of"], content["etag"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return (of, etag) if isinstance(of, str) and isinstance(etag, str) else None


def _continues(remote: Remote, partial: Path) -> tuple[int, str]:
    """How many bytes to go on from, and the ETag they came with; (0, "") to begin. What belongs to another file is given up."""
    of, etag = _known(partial) or ("", "")
    belongs = of == (remote.identity or remote.url) and partial.is_file()
    have = partial.stat().st_size if belongs else 0
    if not belongs or (not etag and not remote.expected):  # nothing would tell a mixture of two files
        discard(partial)
        return 0, ""
    return have, etag


def download(remote: Remote, partial: Path) -> None:
    """Bring `partial` to the whole file, going on from what an earlier try left; the content is not verified here.

    Raises: DownloadError when the server refuses or tries keep bringing nothing; UserError where there is no room for it.
    """
    partial.parent.mkdir(parents=True, exist_ok=True)
    reached, tries_left = _continues(remote, partial)[0], TRIES
    while True:
        try:
            return _try_once(remote, partial)
        except _CutError as cut:
            have = partial.stat().st_size if partial.exists() else 0
            tries_left = TRIES if have > reached else tries_left - 1
            reached = max(reached, have)
            if tries_left == 0:
                raise DownloadError(str(cut)) from cut
            log.info("%s; trying again from %.1f MB on", cut, have / 1e6)
            time.sleep(WAIT_S)


def _try_once(remote: Remote, partial: Path) -> None:
    have, etag = _continues(remote, partial)
    response = _open(remote, partial, have, etag)
    if response is None:
        return
    with response:
        if response.status != 206 or not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            if response.status == 206:
                discard(partial)
                raise _CutError(f"{remote.host} sent another part of the file than was asked for")
            have = 0
        length = response.headers.get("Content-Length")
        size = have + int(length) if length else None
        _check_room(partial, (size or have) - have)
        tag = response.headers.get("ETag", "")
        write_json(_notes(partial), {"of": remote.identity or remote.url, "etag": "" if tag.startswith("W/") else tag})
        _receive(response, remote, partial, have, size)
    if size is not None and partial.stat().st_size != size:
        raise _CutError(f"{remote.host} ended the connection after {partial.stat().st_size} of {size} bytes")


def _open(remote: Remote, partial: Path, have: int, etag: str) -> http.client.HTTPResponse | None:
    """Ask for the file from byte `have` on. None: there is nothing left to ask for."""
    headers = {"User-Agent": f"mmaudio/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if etag:
            headers["If-Range"] = etag  # another file by now: the server then sends the whole of it
    request = urllib.request.Request(remote.url, headers=headers)
    if remote.authorization:
        request.add_unredirected_header("Authorization", remote.authorization)
    try:
        response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 and error.headers.get("Content-Range", "") == f"bytes */{have}":
                return None
            if error.code == 416:
                discard(partial)
            answer = f"{remote.host} answers {error.code} {error.reason}"
        if error.code in (416, *_PASSING) or error.code >= 500:
            raise _CutError(answer) from error
        raise DownloadError(answer) from error
    except (OSError, http.client.HTTPException) as error:
        raise _CutError(f"{remote.host} cannot be reached: {getattr(error, 'reason', error)}") from error
    return response


def _check_room(partial: Path, wanted_bytes: int) -> None:
    free = shutil.disk_usage(partial.parent).free
    if free < wanted_bytes:
        raise UserError(f"{partial.parent} has room for {free / 1e9:.1f} GB and {wanted_bytes / 1e9:.1f} GB are to come; make room")


def _receive(response: http.client.HTTPResponse, remote: Remote, partial: Path, have: int, size: int | None) -> None:
    """Write what comes behind the first `have` bytes of `partial`; what is written stays, whatever happens."""
    name = partial.name.strip(".").removesuffix(".part")
    total = -(-(size or have) // _BLOCK_BYTES)
    blocks = progress(_blocks(response, remote), total, f"{name}, MiB", start=have // _BLOCK_BYTES)
    beginning = os.O_APPEND if have else os.O_TRUNC
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | beginning, 0o666), "ab" if have else "wb") as file:
        for block in blocks:
            file.write(block)
        file.flush()
        os.fsync(file.fileno())


def _blocks(response: http.client.HTTPResponse, remote: Remote) -> Iterator[bytes]:
    while True:
        try:
            block = response.read(_BLOCK_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise _CutError(f"{remote.host} ended the connection: {error!r}") from error
        if not block:
            return
        yield block
