"""Where a weight is, what of it is here."""

import logging
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from mmaudio.base.errors import Problems, UserError
from mmaudio.files.checksums import check_sums
from mmaudio.files.locks import weight_lock
from mmaudio.weights import hub
from mmaudio.weights.catalogue import HubSource, WeightRow, find_row
from mmaudio.weights.fetch import cached_files, ensure
from mmaudio.weights.hub import HubPlace
from mmaudio.weights.verification import contradiction, expected_checksum, file_fingerprint, remember, remembered

log = logging.getLogger(__name__)


# ---- Where a user says a weight is: at a path, in a repository of the hub, or nowhere in particular

_REPOSITORY = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")
_FILE_ENDS = (".pth", ".pt", ".bin", ".safetensors", ".ckpt", ".json")


def read_place(row: WeightRow, place: str | Path | None, root: Path) -> Path | HubPlace | None:
    """Understand a place: an existing path (which wins over the other readings), a repository, or None for the default.

    A path to nothing is the default as well where it is the row's own.

    Raises: UserError for a path to nothing, and for one that lacks files of the row.
    """
    if place is None:
        return None
    path = Path(place).expanduser()
    if path.exists():
        return _checked(row, path)
    if path.absolute() == row.path(root).absolute():
        return None
    match = _REPOSITORY.fullmatch(place) if isinstance(place, str) and not place.startswith(".") else None
    if match and (match["revision"] or not match["repo"].endswith(_FILE_ENDS)):
        return HubPlace(match["repo"], match["revision"] or "main")
    want = "folder" if row.subfolder else "file"
    remedy = f"name a {want}, or OWNER/REPO[@REVISION], or name none: `{row.fetch_command}` then gets it"
    raise UserError(row.told(f"there is no {want} at {place}", remedy))


def _checked(row: WeightRow, path: Path) -> Path:
    """A path the user named, if it holds what the row wants."""
    if not row.subfolder:
        if path.is_dir():
            raise UserError(row.told(f"{path} is a folder; a file is wanted", f"name the file in it, such as {path / row.files[0]}"))
        return path
    if not path.is_dir():
        raise UserError(row.told(f"{path} is a file; a folder is wanted", f"name the folder that holds {' and '.join(row.files)}"))
    missing = [file for file in row.files if file not in row.found_in(path)]
    if missing:
        raise UserError(row.told(f"{path} holds no {' and no '.join(missing)}", f"name a folder with {' and '.join(row.files)}"))
    return path


_HERE = Path()


def locate(name: str, place: str | Path | None = None, *, root: Path = _HERE) -> Path:
    """The file of a weight, or the folder of its files, ready to load.

    Args:
        name: a row of the catalogue.
        place: an existing path, used as it is; "OWNER/REPO[@REVISION]", from the hub, through its cache; or None: the
            default place below `root`, verified against what was published, and fetched if it is missing.
        root: what the default folders are relative to; by default the working directory.

    Raises: UserError in one sentence: what is missing or wrong, what needs it, and how to get it.
    """
    row = find_row(name)
    at = read_place(row, place, root)
    if at is None:
        return ensure(row, root)
    return from_repository(row, at) if isinstance(at, hub.HubPlace) else at


def check_place(name: str, place: str | Path | None = None, *, root: Path = _HERE) -> None:
    """Raises: UserError for an unknown name, and for a place that `locate` would refuse without asking the network."""
    read_place(find_row(name), place, root)


def from_repository(row: WeightRow, place: hub.HubPlace) -> Path:
    """The row's file, or the folder of its files, in the hub's cache, as the repository has them.

    A row of one file is looked for under the repository's root, then in the folder it lies in by default.

    Raises: UserError where it cannot be had, or is not what the hub says it is.
    """
    folder = row.source.folder if isinstance(row.source, HubSource) else row.folder
    with weight_lock(hub.cache_folder(), f"mmaudio-{row.name}"):
        if not row.subfolder:
            return _from_cache(row, place, (row.files[0], f"{folder}/{row.files[0]}"))
        for file in row.files:
            path = _from_cache(row, place, (file, *row.alternatives.get(file, ())))
            place = hub.HubPlace(place.repo, path.parent.name)  # the commit: the next file comes from the same one
    return path.parent


def _from_cache(row: WeightRow, place: hub.HubPlace, names: tuple[str, ...]) -> Path:
    """The first of `names` that the repository has, brought into the cache and verified."""
    with hub.sentences(row, place, names[0]):
        name = next((name for name in names if hub.cached(place, name)), None)
    if hub.is_offline():
        path = hub.cached(place, name) if name else None
        if path is None:
            at = f"{place.repo}@{place.revision}"
            raise UserError(row.told(f"{names[0]} of {at} is not in the hub's cache and HF_HUB_OFFLINE is set", "unset it, or name a path"))
    else:
        path = hub.cache_file(row, place, name or hub.first_there(row, place, names))
    expected = hub.cached_checksum(path)
    wrong = contradiction(path, file_fingerprint(path, expected), expected)
    if wrong:
        hub.drop_cached(path)
        found = f"{path.name} of {place.repo} is not what the hub says it is ({wrong}) and was removed from the cache"
        raise UserError(row.told(found, "run this again to get it anew"))
    return path


# ---- What is there of a row: at a glance, or verified byte by byte

VERIFIED, UNVERIFIED, WRONG, MISSING, CACHED = "verified", "unverified", "wrong", "missing", "hub cache"


def state(row: WeightRow, root: Path) -> str:
    """One of the words above, from what is remembered: no file is read, no network asked."""
    targets = [target for target in row.targets(root).values() if target.is_file()]
    if len(targets) < len(row.files):
        return CACHED if not targets and cached_files(row) else MISSING
    wrong = []
    for target in targets:
        known, expected = remembered(target), expected_checksum(target, row.published_checksum)
        if known is None or expected is None or not known.can_answer(expected):
            return UNVERIFIED
        wrong.append(contradiction(target, known, expected))
    return WRONG if any(wrong) else VERIFIED


def verify_row(row: WeightRow, root: Path) -> str:
    """Read every file of a row anew and compare it with what was published. Returns: what to say of it.

    A file of the hub that came by another way is compared with what the hub says of it, where the network may be asked; one that can be
    compared with nothing, with the checksums that it carries.

    Raises: UserError with a sentence for each file that is missing or wrong.
    """
    targets = row.targets(root)
    if not any(target.exists() for target in targets.values()) and (paths := cached_files(row)):
        return _verify_cached(row, paths)
    problems, compared = Problems(), dict[str, bool]()
    for file, target in targets.items():
        if not target.is_file():
            problems.add(row.told(f"{target} is missing"))
            continue
        expected = _published(row, file, target)
        taken = file_fingerprint(target, expected, anew=True)
        wrong = contradiction(target, taken, expected)
        if wrong:
            problems.add(row.told(f"{target} is not the published file: {wrong}", f"`{row.fetch_command}` gets the right one"))
        elif expected:
            remember(target, replace(taken, expected=taken.expected or f"sha256:{taken.sha256}"))
        else:
            compared[file] = bool(problems.check(partial(check_sums, target)))
    problems.raise_any()
    return f"{row.path(root)}: {_verdict(compared)}"


def _verdict(compared: Mapping[str, bool]) -> str:
    """What to say of a row whose files are right, but for these, of which nothing was published: whether their own checksums are."""
    if not compared:
        return "right"
    said = ["there, with nothing at hand to compare it with"]
    for words, has_own in (("right by the checksums in it", True), ("unchecked", False)):
        if named := [file for file, own in compared.items() if own is has_own]:
            said.append(f"{words}: {', '.join(named)}")
    return "; ".join(said)


def _verify_cached(row: WeightRow, paths: list[Path]) -> str:
    compared = {}
    for path in paths:
        expected = row.published_checksum or hub.cached_checksum(path)
        if wrong := contradiction(path, file_fingerprint(path, expected, anew=True), expected):
            raise UserError(row.told(f"{path} is not the published file: {wrong}", f"remove it and run `{row.fetch_command}`"))
        if expected is None:
            compared[path.name] = check_sums(path)
    return f"{paths[0]}: {_verdict(compared)}, in the hub's cache"


def _published(row: WeightRow, file: str, target: Path) -> str | None:
    expected = expected_checksum(target, row.published_checksum)
    if expected is not None or not isinstance(row.source, HubSource) or hub.is_offline():
        return expected
    try:
        return hub.source_file(row, row.source, file).expected
    except UserError as error:
        log.info("%s", error)
        return None
