"""The Hugging Face Hub: what the environment says of it, one file's address there, and its cache on this machine.

Only plain functions of huggingface_hub that are the same in its major versions 0 to 2; it is imported when first needed.
The library reads its environment once, at its import, so that endpoint and cache are read here and handed to it.
"""

import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mmaudio.base.errors import UserError
from mmaudio.weights.catalogue import HubSource, WeightRow
from mmaudio.weights.download import TRIES, Remote

log = logging.getLogger(__name__)
_ENDPOINT = "https://huggingface.co"
_TIMEOUT_S = 10.0
_SHA256, _SHA1 = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}")
_BASES = {"httpx2": "HTTPError", "httpx": "HTTPError", "requests": "RequestException"}  # of what each HTTP library raises


@dataclass(frozen=True)
class HubPlace:
    """A repository and a branch, tag or commit in it."""

    repo: str
    revision: str = "main"


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids the network."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")


def endpoint() -> str:
    """The hub's address: HF_ENDPOINT, or the public one."""
    return (os.environ.get("HF_ENDPOINT") or _ENDPOINT).rstrip("/")


def cache_folder() -> Path:
    """The hub's cache, by the order its documentation gives: HF_HUB_CACHE, then HF_HOME, then the user's cache folder."""
    named = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    if named:
        return Path(os.path.expandvars(named)).expanduser()
    home = os.environ.get("HF_HOME") or f"{os.environ.get('XDG_CACHE_HOME') or '~/.cache'}/huggingface"
    return Path(os.path.expandvars(home)).expanduser() / "hub"


def etag_checksum(etag: str | None) -> str | None:
    """What an ETag of the hub says of a file's content: a SHA-256 (large files), git's name of it (small ones), or nothing."""
    if etag and _SHA256.fullmatch(etag):
        return f"sha256:{etag}"
    return f"git:{etag}" if etag and _SHA1.fullmatch(etag) else None


def cached(place: HubPlace, file: str) -> Path | None:
    """A file of the cache, found without the network; None if it is not there."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(place.repo, file, cache_dir=cache_folder(), revision=place.revision)
    return Path(found) if isinstance(found, str) else None


def cached_checksum(path: Path) -> str | None:
    """What the content of a cached file should be: the cache keeps it under the ETag it came with, and links to that."""
    return etag_checksum(Path(os.readlink(path)).name) if path.is_symlink() else None


def drop_cached(path: Path) -> None:
    """Remove a wrong file from the cache, link and content, or it would be taken for the right one for ever."""
    blob = path.parent / os.readlink(path) if path.is_symlink() else path
    for part in {blob.resolve(), blob, path}:
        part.unlink(missing_ok=True)


def _ask(place: HubPlace, file: str) -> Remote:
    """Where to get a file, by one small request. Raises: what huggingface_hub raises."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(place.repo, file, revision=place.revision, endpoint=endpoint())
    found = get_hf_file_metadata(url, timeout=_TIMEOUT_S)
    return Remote(url, etag_checksum(found.etag), found.etag, _library().build_hf_headers().get("authorization"))


def first_there(row: WeightRow, place: HubPlace, files: tuple[str, ...]) -> str:
    """The first of `files` that is in the repository.

    Raises: UserError for a repository or revision that is not there or has none of them, and for a hub out of reach.
    """
    library = _library()
    with sentences(row, place, " and no ".join(files)):
        for file in files:
            try:
                _ask(place, file)
                return file
            except library.EntryNotFoundError:
                if file == files[-1]:
                    raise
    raise AssertionError("no file was asked for")


def source_file(row: WeightRow, source: HubSource, file: str) -> Remote:
    """Where a file of the row is got from by default: the first of its repositories that is there. Raises: UserError."""
    library = _library()
    path = source.path(file)
    *earlier, last = (HubPlace(repo, source.revision) for repo in source.repos)
    for place in earlier:
        with sentences(row, place, path):
            try:
                return _ask(place, path)
            except library.GatedRepoError:
                raise
            except library.RepositoryNotFoundError:
                continue
    with sentences(row, last, path):
        return _ask(last, path)


def cache_file(row: WeightRow, place: HubPlace, file: str) -> Path:
    """Bring a file of a repository into the cache (if the hub has another one by now), and say where it lies."""
    from huggingface_hub import hf_hub_download

    with sentences(row, place, file):
        for _ in range(TRIES - 1):
            try:
                return Path(hf_hub_download(place.repo, file, revision=place.revision, cache_dir=cache_folder(), endpoint=endpoint()))
            except _network_errors() as error:  # a cut connection, which older versions do not go on from by themselves
                if isinstance(error, _library().HfHubHTTPError):
                    raise
                log.info("%s: %s; trying again", file, error)
        return Path(hf_hub_download(place.repo, file, revision=place.revision, cache_dir=cache_folder(), endpoint=endpoint()))


def _host() -> str:
    return urlsplit(endpoint()).netloc


def _library() -> Any:
    """huggingface_hub.utils, which holds its errors in all versions (huggingface_hub.errors only since 0.25), under lazy names."""
    from huggingface_hub import utils

    return utils


def _network_errors() -> Any:
    """What the HTTP library behind huggingface_hub raises: requests, httpx or httpx2, by its version."""
    return tuple(getattr(sys.modules[name], base) for name, base in _BASES.items() if name in sys.modules)


@contextmanager
def sentences(row: WeightRow, place: HubPlace, file: str) -> Iterator[None]:
    """Tell what the hub or the way to it did wrong as a UserError of one sentence."""
    utils = _library()
    at = f"{place.repo} on {_host()}"
    try:
        yield
    except utils.GatedRepoError as error:
        raise UserError(row.told(f"{at} is gated", "accept its terms there and log in: hf auth login")) from error
    except utils.RepositoryNotFoundError as error:
        raise UserError(row.told(f"there is no repository {at}, or it is private", "name another one, or a path")) from error
    except utils.RevisionNotFoundError as error:
        raise UserError(row.told(f"{at} has no revision {place.revision!r}", "name another one: OWNER/REPO@REVISION")) from error
    except utils.LocalEntryNotFoundError as error:
        raise UserError(row.told(f"{_host()} does not answer", f"try again, or on another network: `{row.fetch_command}`")) from error
    except utils.EntryNotFoundError as error:
        raise UserError(row.told(f"{at} has no {file} (at {place.revision})", "name a repository that has it, or a path")) from error
    except utils.HFValidationError as error:
        raise UserError(row.told(f"{place.repo!r} is neither a file here nor the name of a repository", "name either")) from error
    except utils.OfflineModeIsEnabled as error:
        raise UserError(row.told(f"{at} may not be asked: huggingface_hub was loaded offline", "unset HF_HUB_OFFLINE")) from error
    except (OSError, *_network_errors()) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UserError(row.told(f"{at} cannot be had: {reason}", f"try again, or on another network: `{row.fetch_command}`")) from error
