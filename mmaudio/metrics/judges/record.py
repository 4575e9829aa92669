"""What the features of a cache folder were made of: `cache.json` beside them, so that only what is missing or out of date is made anew."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmaudio.base.errors import UserError
from mmaudio.base.files import text_hash, write_json
from mmaudio.base.ownership import MARK_KEY
from mmaudio.metrics.feature_marks import RECORD_FILE, record_mark
from mmaudio.metrics.judges.table import TEXT, Judge

FORMAT = 1

MadeOf = dict[str, Any]


@dataclass
class Entry:
    """Of one cache file: what its features were made by and with, and for each id the stamp of what it was made of."""

    made_of: MadeOf
    stamps: dict[str, str] = field(default_factory=dict)


def made_of(judge: Judge, weights: Mapping[str, str], duration_s: float) -> MadeOf:
    """What features of a judge depend on beside the clip. `weights`: weight name → checksum."""
    own = {name: weights[name] for name in judge.weights}
    length = {} if judge.kind == TEXT else {"duration_s": duration_s}
    return {"judge": judge.name, "version": judge.version, "weights": own, **length}


def stamp(source: Path | str) -> str:
    """What tells whether a source is still the one it was: of a caption its hash, of a file its size and time of change."""
    if isinstance(source, str):
        return text_hash([source])
    try:
        status = source.stat()
    except OSError:
        return "none"  # reading it will say why
    return f"{status.st_size} bytes, {status.st_mtime_ns} ns"


def read_record(cache_dir: Path) -> dict[str, Entry]:
    """Stem → entry; none where there is no record. Raises: UserError for a record of another version, or none of ours."""
    path = cache_dir / RECORD_FILE
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] == FORMAT:
            return {stem: Entry(dict(entry["made_of"]), dict(entry["stamps"])) for stem, entry in content["stems"].items()}
        found = f"is of format {content['format']}; want {FORMAT}"
    except (ValueError, KeyError, TypeError, AttributeError):
        found = "is no record of features"
    raise UserError(f"{path} {found}; remove that folder, or name another one for the features")


def write_record(cache_dir: Path, record: Mapping[str, Entry]) -> None:
    """Write the record, atomically."""
    stems = {stem: {"made_of": entry.made_of, "stamps": entry.stamps} for stem, entry in sorted(record.items())}
    write_json(cache_dir / RECORD_FILE, {MARK_KEY: record_mark(cache_dir), "format": FORMAT, "stems": stems})
