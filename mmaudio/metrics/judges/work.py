"""What a judge has to do for a cache folder, found before it begins, and how its parts come into the cache files in the end."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mmaudio.base.ownership import foreign, move_aside
from mmaudio.metrics.caches import cache_path, read_features, write_features
from mmaudio.metrics.feature_marks import RECORD_FILE, features_mark, is_foreign, is_foreign_record
from mmaudio.metrics.judges.parts import read_parts, remove_parts
from mmaudio.metrics.judges.record import Entry, MadeOf, read_record, stamp, write_record
from mmaudio.metrics.judges.table import Judge

log = logging.getLogger(__name__)

Source = Path | str  # a file, or a caption


@dataclass(frozen=True)
class Work:
    """Of one judge: what features are made of now, the stamp of every item, and the ids that are still to be judged."""

    judge: Judge
    made_of: MadeOf
    marks: dict[str, str]
    ids: list[str]


def begin(judge: Judge, now: MadeOf, items: Mapping[str, Source], cache_dir: Path) -> Work:
    """What is left to do, after features that were made otherwise, or nobody knows how, are dropped.

    A cache file that this program did not make is moved aside. Raises: UserError for a record that is damaged, or not ours.
    """
    cache_dir.mkdir(parents=True, exist_ok=True)
    record = read_record(cache_dir)
    if is_foreign_record(cache_dir):
        raise foreign(cache_dir, "name another folder for the features", found=cache_dir / RECORD_FILE)
    for stem in judge.stems:
        path, entry = cache_path(cache_dir, stem), record.get(stem)
        if is_foreign(path):
            move_aside(path)
        elif entry is not None and entry.made_of != now:
            log.info("features in %s were made otherwise (%s) and are made anew", path, _difference(entry.made_of, now))
        if entry is None or entry.made_of != now or not path.exists():
            record[stem] = Entry(now)
    write_record(cache_dir, record)
    marks = {clip_id: stamp(source) for clip_id, source in items.items()}
    in_files = [record[stem].stamps for stem in judge.stems]
    in_parts = [part.stamps for part in read_parts(cache_dir, judge.name, now)]

    def is_done(clip_id: str, mark: str) -> bool:
        return all(stamps.get(clip_id) == mark for stamps in in_files) or any(stamps.get(clip_id) == mark for stamps in in_parts)

    return Work(judge, now, marks, [clip_id for clip_id, mark in marks.items() if not is_done(clip_id, mark)])


def _difference(before: MadeOf, now: MadeOf) -> str:
    return ", ".join(f"{key} {before.get(key)!r}, now {now[key]!r}" for key in now if before.get(key) != now[key])


def finish(work: Work, cache_dir: Path) -> None:
    """Bring the parts into the cache files and the record up to date, and remove them. Features of files that changed go;
    those of ids that were not asked for stay.

    A kill on the way loses nothing: the parts go last.
    """

    def is_wanted(clip_id: str, mark: str) -> bool:
        return work.marks.get(clip_id, mark) == mark

    record = read_record(cache_dir)
    parts = read_parts(cache_dir, work.judge.name, work.made_of)
    for stem in work.judge.stems:
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
    write_record(cache_dir, record)
    remove_parts(cache_dir, work.judge.name)
