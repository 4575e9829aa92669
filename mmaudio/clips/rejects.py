"""Inputs that failed: what, at which stage, and why. They never stop a run, and never vanish."""

from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

from mmaudio.base.marked_files import remove_recorded
from mmaudio.base.tables import read_columns, write_table

_COLUMNS = ("id", "file", "stage", "reason")


@dataclass(frozen=True, slots=True)
class Reject:
    """An input that failed."""

    id: str
    file: str
    stage: str  # of the pipeline: `partition`, `captions`, `read`, …
    reason: str  # one plain sentence or less


def rejects_path(output: Path) -> Path:
    """`<name>.failed.tsv` beside an output: the table `<name>.tsv`, or a store's folder `<name>` (dots are kept)."""
    name = output.name.removesuffix(".tsv")
    return output.with_name(f"{name}.failed.tsv")


def write_rejects(path: Path, rejects: Iterable[Reject]) -> None:
    """Write a table of rejects, atomically, with its record beside it. With none, one of an earlier run is removed: it could mislead.

    A table that this program did not write is moved aside in either case; `check_recorded` finds it before the work.
    """
    some = list(rejects)
    if some:
        write_table(path, _COLUMNS, map(attrgetter(*_COLUMNS), some), recorded=True)
    else:
        remove_recorded(path)


def read_rejects(path: Path) -> list[Reject]:
    """Read a table of rejects; no table means none. Raises: UserError for a table of another shape."""
    if not path.exists():
        return []
    return [Reject(*row) for row in read_columns(path, _COLUMNS)]
