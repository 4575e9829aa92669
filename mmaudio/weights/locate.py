"""Where a weight is to be loaded from, fetched first if need be."""

from pathlib import Path

from mmaudio.base.errors import UserError
from mmaudio.weights import hub
from mmaudio.weights.catalogue import HubSource, WeightRow, find_row
from mmaudio.weights.fetch import ensure
from mmaudio.weights.lock import one_process
from mmaudio.weights.place import read_place
from mmaudio.weights.verify import contradiction, fingerprint

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
    with one_process(hub.cache_folder(), f"mmaudio-{row.name}"):
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
    wrong = contradiction(path, fingerprint(path, expected), expected)
    if wrong:
        hub.drop_cached(path)
        found = f"{path.name} of {place.repo} is not what the hub says it is ({wrong}) and was removed from the cache"
        raise UserError(row.told(found, "run this again to get it anew"))
    return path
