"""From its source to its place: one process checks, downloads and verifies, the others of the machine wait for it."""

import logging
import os
from dataclasses import replace
from pathlib import Path

from mmaudio.base.errors import UserError
from mmaudio.files.checksums import note_verified
from mmaudio.files.locks import weight_lock
from mmaudio.files.ownership import at_end_of_links, move_aside
from mmaudio.weights import hub
from mmaudio.weights.catalogue import HubSource, WeightRow
from mmaudio.weights.download import DownloadError, Remote, discard, download
from mmaudio.weights.verification import (
    MD5,
    contradiction,
    expected_checksum,
    file_fingerprint,
    forget,
    read_fingerprint,
    remember,
    remembered,
)

log = logging.getLogger(__name__)


def ensure(row: WeightRow, root: Path, *, replace_wrong: bool = False) -> Path:
    """The row's default place, where its files are, verified; what is missing is fetched (or found in the hub's cache).

    `replace_wrong`: also fetch what is there and not the published file, which is kept beside under another name.

    Raises: UserError for a wrong file, and where a file cannot be had.
    """
    path, targets = row.path(root), row.targets(root)
    if all(_is_known_right(row, target) for target in targets.values()):
        return path
    missing = [target for target in targets.values() if not target.exists()]
    if len(missing) == len(targets) and (found := _right_in_cache(row)) is not None:
        log.info("%s is in the hub's cache: %s", row.what, found)
        return found
    if missing:
        _refuse_offline(row, missing[0])
    with weight_lock(root / row.folder, row.name):
        for file, target in targets.items():
            wrong = difference(row, target) if target.is_file() else None
            if not target.exists() or (wrong and replace_wrong):
                fetch_file(row, file, target)
            elif wrong:
                raise UserError(row.told(f"{target} is not the published file: {wrong}", _mend(row)))
    return path


def _mend(row: WeightRow) -> str:
    return f"`{row.fetch_command}` gets the right one and keeps this one beside it, or name it by its path to use it as it is"


def _is_known_right(row: WeightRow, target: Path) -> bool:
    """Whether a file is there and was found right before, without reading its content."""
    known = remembered(target) if target.is_file() else None
    expected = expected_checksum(target, row.published_checksum)
    return known is not None and known.can_answer(expected) and contradiction(target, known, expected) is None


def difference(row: WeightRow, target: Path) -> str | None:
    """In words, how the file at its default place differs from the published one; None if nothing is known to differ."""
    expected = expected_checksum(target, row.published_checksum)
    return contradiction(target, file_fingerprint(target, expected), expected)


def cached_files(row: WeightRow) -> list[Path]:
    """The row's files in the hub's cache, unverified, found without the network; none unless all are there."""
    if not isinstance(row.source, HubSource):
        return []
    names = [row.source.path(file) for file in row.files]
    for repo in row.source.repos:
        found = [hub.cached(hub.HubPlace(repo, row.source.revision), name) for name in names]
        paths = [path for path in found if path is not None]
        if len(paths) == len(names):
            return paths
    return []


def _right_in_cache(row: WeightRow) -> Path | None:
    """The row's file, or the folder of its files, in the hub's cache, if all are there and right."""
    paths = cached_files(row)
    if not paths:
        return None
    with weight_lock(hub.cache_folder(), f"mmaudio-{row.name}"):
        for path in paths:
            wrong = _cached_difference(row, path)
            if wrong:
                log.warning("%s is not the published file (%s) and is left alone", path, wrong)
                return None
    return paths[0].parent if row.subfolder else paths[0]


def _cached_difference(row: WeightRow, path: Path) -> str | None:
    """In words, how a file of the hub's cache differs from the published one."""
    expected = row.published_checksum or hub.cached_checksum(path)
    return contradiction(path, file_fingerprint(path, expected), expected)


def _refuse_offline(row: WeightRow, target: Path) -> None:
    if hub.is_offline():
        remedy = f"unset it and run `{row.fetch_command}`, or name a file that is there by its path"
        raise UserError(row.told(f"{target} is missing and HF_HUB_OFFLINE is set", remedy))


def _remote(row: WeightRow, file: str) -> Remote:
    source = row.source
    remote = hub.source_file(row, source, file) if isinstance(source, HubSource) else Remote(f"{source.url}/{file}")
    return replace(remote, expected=row.published_checksum or remote.expected)


def fetch_file(row: WeightRow, file: str, target: Path) -> None:
    """Download one file of a row under a temporary name, verify it, and rename it to `target`.

    Raises: UserError where it cannot be had, or is not the published file; `target` is then as it was.
    """
    _refuse_offline(row, target)
    remote = _remote(row, file)
    real = target if target.exists() else at_end_of_links(target)  # a link to a wrong file is kept as it is, beside
    partial = real.with_name(f".{real.name}.part")
    log.info("fetching %s (%s, %s) from %s", file, row.what, row.size, remote.host)
    try:
        download(remote, partial)
    except DownloadError as error:
        raise UserError(row.told(f"{file} could not be fetched: {error}", f"what came is kept: `{row.fetch_command}` goes on")) from error
    except OSError as error:
        remedy = "make room there, or name a file elsewhere by its path"
        raise UserError(row.told(f"{target} cannot be written: {error.strerror or error}", remedy)) from error
    taken = read_fingerprint(partial, remote.expected)
    wrong = contradiction(partial, taken, remote.expected)
    if wrong:
        discard(partial)
        found = f"what {remote.host} sent for {file} is not the published file ({wrong}) and was removed"
        raise UserError(row.told(found, f"try again: `{row.fetch_command}`"))
    if target.exists():  # nothing a user has is lost
        move_aside(target, "is not the published file")
        forget(target)
    os.replace(partial, real)
    discard(partial)
    is_md5 = remote.expected is not None and remote.expected.startswith(MD5)
    remember(target, replace(taken, expected=remote.expected if is_md5 else f"sha256:{taken.sha256}"))
    if remote.expected:
        note_verified(target)
