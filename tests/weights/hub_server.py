"""A small server on this machine that plays the Hugging Face Hub and a GitHub release, and that can misbehave on request.

with serve() as server:
    server.add_file("test/vae", "v1-16.pth", path_or_bytes)          # HF_ENDPOINT=server.url, place "test/vae@main"
    server.misbehave("v1-16.pth", cut_after=1000)                    # the next body ends early
    server.asked("v1-16.pth")                                        # what was asked for, in order
"""

import hashlib
import io
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO
from urllib.parse import unquote

_BLOCK_BYTES = 1 << 20
_RESOLVE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")


@dataclass(frozen=True)
class Served:
    """A file of the server: bytes, or a path that is read as it is sent."""

    content: bytes | Path
    is_small: bool = False  # kept in git itself: its ETag is git's name of it

    def open(self) -> IO[bytes]:
        return open(self.content, "rb") if isinstance(self.content, Path) else io.BytesIO(self.content)

    @cached_property
    def size(self) -> int:
        return self.content.stat().st_size if isinstance(self.content, Path) else len(self.content)

    @cached_property
    def etag(self) -> str:
        digest = hashlib.sha1(b"blob %d\0" % self.size) if self.is_small else hashlib.sha256()
        with self.open() as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
        return digest.hexdigest()


@dataclass(frozen=True)
class Asked:
    """A request: GET or HEAD, for what, from which byte on, and as whom."""

    method: str
    path: str
    range: str | None
    authorization: str | None


@dataclass
class Fault:
    """What goes wrong, and how many times it still will."""

    cut_after: int | None = None  # bytes of the body, then the connection ends
    garble: bool = False  # other bytes of the same length
    status: int | None = None  # an error answer
    delay_s: float = 0.0
    ignores_range: bool = False
    times: int = 1


@dataclass
class HubServer:
    """What is served and what was asked for."""

    url: str = ""
    repos: dict[str, dict[str, dict[str, Served]]] = field(default_factory=dict)  # repository → revision → file
    releases: dict[str, Served] = field(default_factory=dict)
    faults: list[tuple[str, Fault]] = field(default_factory=list)  # file → what goes wrong with it, in order
    requests: list[Asked] = field(default_factory=list)

    def add_file(self, repo: str, file: str, content: bytes | Path, revision: str = "main") -> None:
        """Put a file into a repository. Json files have git's kind of ETag, all others that of large files, as on the hub."""
        self.repos.setdefault(repo, {}).setdefault(revision, {})[file] = Served(content, is_small=file.endswith(".json"))

    def add_release(self, file: str, content: bytes | Path) -> str:
        """Put a file into the release. Returns the URL the files lie below."""
        self.releases[file] = Served(content)
        return f"{self.url}/releases"

    def misbehave(self, file: str, **fault: int | float | bool) -> None:
        """Let the next answer with the content of a file go wrong (see `Fault`), or the next `times` ones, after what is still to come."""
        self.faults.append((file, Fault(**fault)))  # type: ignore[arg-type]

    def asked(self, file: str, method: str = "GET") -> list[Asked]:
        """The requests for the content of a file, redirects not counted."""
        about = [asked for asked in self.requests if asked.path.endswith(f"/{file}") and "/releases/" not in asked.path]
        return [asked for asked in about if asked.method == method]

    def commit(self, repo: str, revision: str) -> str:
        """The commit a revision is at, of its own content."""
        told = sorted(f"{file} {served.etag}" for file, served in self.repos[repo][revision].items())
        return hashlib.sha1("\n".join([repo, *told]).encode()).hexdigest()

    def fault_of(self, path: str) -> Fault:
        """What goes wrong with this answer, counted."""
        found = next((fault for file, fault in self.faults if path.endswith(f"/{file}") and fault.times > 0), None)
        if found is None:
            return Fault()
        found.times -= 1
        return found


class _EmptyAnswerError(Exception):
    """An answer without content: a status, and headers."""

    def __init__(self, status: int, **headers: str) -> None:
        self.status, self.headers = status, {name.replace("_", "-"): value for name, value in headers.items()}


class _Handler(BaseHTTPRequestHandler):
    world: HubServer

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, with_body: bool) -> None:
        path = unquote(self.path.partition("?")[0])
        self.world.requests.append(Asked(self.command, path, self.headers["Range"], self.headers["Authorization"]))
        try:
            served, headers = self._find(path)
            self._send(served, headers, self.world.fault_of(path) if with_body else Fault(), with_body)
        except _EmptyAnswerError as answer:
            self._head(answer.status, answer.headers | {"Content-Length": "0"})
        except ConnectionError:  # the other side had enough
            pass

    def _find(self, path: str) -> tuple[Served, dict[str, str]]:
        kind, _, name = path.strip("/").partition("/")
        if kind == "releases":  # a release sends on to a storage host, as GitHub does
            raise _EmptyAnswerError(302 if name in self.world.releases else 404, Location=f"{self.world.url}/assets/{name}?signed=1")
        if kind == "assets" and name in self.world.releases:
            served = self.world.releases[name]
            return served, {"ETag": f'"{served.etag}"'}
        match = _RESOLVE.fullmatch(path)
        if match is None:
            raise _EmptyAnswerError(404)
        revisions = self.world.repos.get(match["repo"])
        if revisions is None:
            raise _EmptyAnswerError(404, X_Error_Code="RepoNotFound")
        commits = {self.world.commit(match["repo"], revision): revision for revision in revisions}
        revision = commits.get(match["revision"], match["revision"])
        if revision not in revisions:
            raise _EmptyAnswerError(404, X_Error_Code="RevisionNotFound")
        commit = self.world.commit(match["repo"], revision)
        if match["file"] not in revisions[revision]:
            raise _EmptyAnswerError(404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
        served = revisions[revision][match["file"]]
        large = {} if served.is_small else {"X-Linked-Etag": f'"{served.etag}"', "X-Linked-Size": str(served.size)}
        return served, {"ETag": f'"{served.etag}"', "X-Repo-Commit": commit, **large}

    def _send(self, served: Served, headers: dict[str, str], fault: Fault, with_body: bool) -> None:
        time.sleep(fault.delay_s)
        if fault.status is not None:
            raise _EmptyAnswerError(fault.status)
        start = int(re.sub(r"bytes=(\d+)-", r"\1", self.headers["Range"] or "0"))
        if fault.ignores_range or self.headers.get("If-Range", headers["ETag"]) != headers["ETag"]:
            start = 0
        if start and start >= served.size:
            raise _EmptyAnswerError(416, Content_Range=f"bytes */{served.size}")
        part = {"Content-Range": f"bytes {start}-{served.size - 1}/{served.size}"} if start else {}
        self._head(206 if start else 200, headers | part | {"Content-Length": str(served.size - start), "Accept-Ranges": "bytes"})
        left = min(served.size - start, served.size if fault.cut_after is None else fault.cut_after)
        with served.open() as file:
            file.seek(start)
            while with_body and left > 0 and (block := file.read(min(left, _BLOCK_BYTES))):
                self.wfile.write(bytes(255 - byte for byte in block) if fault.garble else block)
                left -= len(block)

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


@contextmanager
def serve() -> Iterator[HubServer]:
    """Serve on a free port of 127.0.0.1 for the block, in a thread that has ended when the block has."""
    world = HubServer()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"world": world}))
    server.daemon_threads = True
    world.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield world
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
