"""Features of a folder are made where they are missing or out of date, in parts.

`<cache>/.parts/<extractor>/<rank>-<number>.pth` holds what it was made of, the stamps of its clips and their features by stem.
"""

import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmaudio.base.errors import UserError
from mmaudio.files.atomic import atomic_path, parse_json, sweep_below, text_hash, write_json
from mmaudio.files.ownership import MARK_KEY, foreign, mark_archive_, move_aside
from mmaudio.files.tensor_files import read_tensor_file
from mmaudio.metrics.extractors.available import TEXT, FeatureExtractor
from mmaudio.metrics.feature_cache import (
    PARTS_FOLDER,
    RECORD_FILE,
    cache_path,
    features_mark,
    is_foreign,
    is_foreign_record,
    read_features,
    record_mark,
    write_features,
)

log = logging.getLogger(__name__)


# ---- `cache.json`: what the features of a folder were made of

FORMAT = 1
MadeOf = dict[str, Any]


@dataclass
class Entry:
    """Of one cache file: what its features were made by and with, and for each id the stamp of what it was made of."""

    made_of: MadeOf
    stamps: dict[str, str] = field(default_factory=dict)


def made_of(extractor: FeatureExtractor, weights: Mapping[str, str], duration_s: float) -> MadeOf:
    """What features of an extractor depend on beside the clip. `weights`: weight name → checksum."""
    own = {name: weights[name] for name in extractor.weights}
    length = {} if extractor.kind == TEXT else {"duration_s": duration_s}
    return {"judge": extractor.name, "version": extractor.version, "weights": own, **length}


def source_stamp(source: Path | str) -> str:
    """What tells whether a source is still the one it was: of a caption its hash, of a file its size and time of change."""
    if isinstance(source, str):
        return text_hash([source])
    try:
        status = source.stat()
    except OSError:
        return "none"  # reading it will say why
    return f"{status.st_size} bytes, {status.st_mtime_ns} ns"


def read_cache_record(cache_dir: Path) -> dict[str, Entry]:
    """Stem → entry; none where there is no record. Raises: UserError for a record of another version, or none of ours."""
    path = cache_dir / RECORD_FILE
    if not path.is_file():
        return {}
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
        if content["format"] == FORMAT:
            return {stem: Entry(dict(entry["made_of"]), dict(entry["stamps"])) for stem, entry in content["stems"].items()}
        found = f"is of format {content['format']}; want {FORMAT}"
    except (ValueError, KeyError, TypeError, AttributeError):
        found = "is no record of features"
    raise UserError(f"{path} {found}; remove that folder, or name another one for the features")


def write_cache_record(cache_dir: Path, record: Mapping[str, Entry]) -> None:
    """Write the record, atomically."""
    stems = {stem: {"made_of": entry.made_of, "stamps": entry.stamps} for stem, entry in sorted(record.items())}
    write_json(cache_dir / RECORD_FILE, {MARK_KEY: record_mark(cache_dir), "format": FORMAT, "stems": stems})


MOST_CLIPS = 500  # of one part
MOST_SECONDS = 60.0  # between two parts


@dataclass(frozen=True)
class Part:
    """What one part holds; tensors are read by mmap."""

    made_of: MadeOf
    stamps: dict[str, str]
    features: dict[str, dict[str, Tensor]]  # stem → id → tensor


def parts_folder(cache_dir: Path, extractor: str) -> Path:
    """Where the parts of an extractor are."""
    return cache_dir / PARTS_FOLDER / extractor


def read_parts(cache_dir: Path, extractor: str, made_of: MadeOf) -> list[Part]:
    """The parts of an extractor that were made as they would be now; others are removed, what others made is moved aside."""
    folder, parts = parts_folder(cache_dir, extractor), []
    sweep_below(folder)
    for path in sorted(folder.glob("*.pth")):
        if is_foreign(path):
            move_aside(path)
            continue
        try:
            content: Any = read_tensor_file(path)
            part = Part(**content)
        except (UserError, TypeError):
            part = None
        if part is not None and part.made_of == made_of:
            parts.append(part)
        else:
            log.info("%s was made otherwise, or is torn, and is made anew", path)
            path.unlink()
    return parts


def remove_parts(cache_dir: Path, extractor: str) -> None:
    """Remove the parts of an extractor, and their folders once they are empty."""
    folder = parts_folder(cache_dir, extractor)
    for path in folder.glob("*.pth"):
        if not is_foreign(path):
            path.unlink()
    for emptied in (folder, folder.parent):
        with suppress(OSError):  # it holds something else
            emptied.rmdir()


class PartWriter:
    """Collects the features of one process for one extractor, and writes them out every 500 clips or minute."""

    def __init__(self, cache_dir: Path, extractor: str, made_of: MadeOf, rank: int) -> None:
        self.folder, self.made_of, self.rank = parts_folder(cache_dir, extractor), made_of, rank
        self.number = len(list(self.folder.glob(f"{rank:04d}-*.pth")))
        self._begin()

    def _begin(self) -> None:
        self.stamps: dict[str, str] = {}
        self.features: dict[str, dict[str, Tensor]] = {}
        self.began_s = time.monotonic()

    def add(self, clip_id: str, stamp: str, features: Mapping[str, Tensor]) -> None:
        """Take the features of a clip, stem → tensor; they are copied to the CPU."""
        self.stamps[clip_id] = stamp
        for stem, tensor in features.items():
            self.features.setdefault(stem, {})[clip_id] = tensor.detach().to("cpu", torch.float32, copy=True).contiguous()
        if len(self.stamps) >= MOST_CLIPS or time.monotonic() - self.began_s > MOST_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what was taken, if anything was."""
        if self.stamps:
            while (path := self.folder / f"{self.rank:04d}-{self.number:06d}.pth").exists():
                self.number += 1
            with atomic_path(path) as temporary:
                torch.save({"made_of": self.made_of, "stamps": self.stamps, "features": self.features}, temporary)
                mark_archive_(temporary, features_mark(path))
        self._begin()


# ---- The work of an extractor for a folder, and how its parts come into the cache files in the end

Source = Path | str  # a file, or a caption


@dataclass(frozen=True)
class Work:
    """Of one extractor: what features are made of now, the stamp of every item, and the ids that are still to be judged."""

    extractor: FeatureExtractor
    made_of: MadeOf
    marks: dict[str, str]
    ids: list[str]


def begin_caches(extractor: FeatureExtractor, now: MadeOf, items: Mapping[str, Source], cache_dir: Path) -> Work:
    """What is left to do, after features that were made otherwise, or nobody knows how, are dropped.

    A cache file that this program did not make is moved aside. Raises: UserError for a record that is damaged, or not ours.
    """
    cache_dir.mkdir(parents=True, exist_ok=True)
    record = read_cache_record(cache_dir)
    if is_foreign_record(cache_dir):
        raise foreign(cache_dir, "name another folder for the features", found=cache_dir / RECORD_FILE)
    for stem in extractor.stems:
        path, entry = cache_path(cache_dir, stem), record.get(stem)
        if is_foreign(path):
            move_aside(path)
        elif entry is not None and entry.made_of != now:
            log.info("features in %s were made otherwise (%s) and are made anew", path, _difference(entry.made_of, now))
        if entry is None or entry.made_of != now or not path.exists():
            record[stem] = Entry(now)
    write_cache_record(cache_dir, record)
    marks = {clip_id: source_stamp(source) for clip_id, source in items.items()}
    in_files = [record[stem].stamps for stem in extractor.stems]
    in_parts = [part.stamps for part in read_parts(cache_dir, extractor.name, now)]

    def is_done(clip_id: str, mark: str) -> bool:
        return all(stamps.get(clip_id) == mark for stamps in in_files) or any(stamps.get(clip_id) == mark for stamps in in_parts)

    return Work(extractor, now, marks, [clip_id for clip_id, mark in marks.items() if not is_done(clip_id, mark)])


def _difference(before: MadeOf, now: MadeOf) -> str:
    return ", ".join(f"{key} {before.get(key)!r}, now {now[key]!r}" for key in now if before.get(key) != now[key])


def finish_caches(work: Work, cache_dir: Path) -> None:
    """Bring the parts into the cache files and the record up to date, and remove them. Features of files that changed go;
    those of ids that were not asked for stay.

    A kill on the way loses nothing: the parts go last.
    """

    def is_wanted(clip_id: str, mark: str) -> bool:
        return work.marks.get(clip_id, mark) == mark

    record = read_cache_record(cache_dir)
    parts = read_parts(cache_dir, work.extractor.name, work.made_of)
    for stem in work.extractor.stems:
        entry = record[stem]
        kept = {clip_id for clip_id, mark in entry.stamps.items() if is_wanted(clip_id, mark)}
        if not parts and len(kept) == len(entry.stamps):
            continue
        there = read_features(cache_dir, stem) if kept else {}
        features = {clip_id: there[clip_id] for clip_id in kept}
        stamps = {clip_id: entry.stamps[clip_id] for clip_id in kept}
        for part in parts:
            new = {clip_id: mark for clip_id, mark in part.stamps.items() if is_wanted(clip_id, mark)}
            features.update({clip_id: part.features[stem][clip_id] for clip_id in new})
            stamps.update(new)
        write_features(cache_dir, stem, features, features_mark(cache_path(cache_dir, stem)))
        record[stem] = Entry(work.made_of, stamps)
    write_cache_record(cache_dir, record)
    remove_parts(cache_dir, work.extractor.name)
