"""Where a user says a weight is: at a path, in a repository of the hub, or nowhere in particular."""

import re
from pathlib import Path

from mmaudio.base.errors import UserError
from mmaudio.weights.catalogue import WeightRow
from mmaudio.weights.hub import HubPlace

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
