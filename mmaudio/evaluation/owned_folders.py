"""Folders of samples: which set they belong to, what in them this program made for it, and what is in the way of new samples.

`samples.json` in the folder and a comment in every sound carry a mark that names the set. What carries none is somebody's, whatever
it is called: it is never replaced or removed, and where it is not in the way, neither is it counted.
"""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from mmaudio.base.errors import Problems
from mmaudio.files.file_names import file_of
from mmaudio.files.owned_files import SAMPLES_FILE
from mmaudio.files.ownership import MARK_KEY, Mark, fits, foreign, foreign_files, is_in_the_way, mark_of, read_mark
from mmaudio.media.sample_marks import SOUND, is_foreign_sample
from mmaudio.metrics.av_bench import CACHE as AV_BENCH_CACHE
from mmaudio.metrics.feature_cache import CACHE_FILES, foreign_features, remove_features
from mmaudio.runs.folder import FEATURES_FOLDER

_KIND = "samples"
_CACHES = (FEATURES_FOLDER, AV_BENCH_CACHE)


def set_name(run_name: str, run_dir: Path, folder: Path) -> str:
    """What the samples in a folder of a run belong to: the run, and the folder in it."""
    return f"{run_name}/{folder.relative_to(run_dir).as_posix()}"


def samples_record(made_by: Mapping[str, Any], of: str) -> dict[str, Any]:
    """What `samples.json` says of the samples beside it."""
    return {**made_by, MARK_KEY: mark_of(_KIND, of)}


def mark_in(folder: Path, of: str) -> Mark | None:
    """The mark in the `samples.json` of a folder, where it is of this set."""
    found = read_mark(folder / SAMPLES_FILE)
    return found if fits(found, _KIND, of) else None


def check_samples_folder(folder: Path, of: str, ids: Collection[str], *, keeps: bool, advice: str = "") -> None:
    """Whether samples of these ids can be written to a folder without loss of anything that this program did not make.

    Args:
        keeps: go on where the folder is of this set already. Otherwise what this program made there, features too, is removed first.
        advice: what else the user may do.
    Raises: UserError for what is in the way.
    """
    problems = Problems()
    if folder.exists() and not folder.is_dir():
        raise foreign(folder, advice)
    record = folder / SAMPLES_FILE
    found = [record] if is_in_the_way(record, _KIND, of) else []
    found += [path for path in (file_of(folder, name, SOUND) for name in ids) if is_foreign_sample(path, of)]
    if found:
        problems.add(str(foreign_files(folder, found, advice)))
    is_cleared = not keeps or mark_in(folder, of) is None
    for cache in (folder / name for name in _CACHES if is_cleared):
        for path in foreign_features(cache, CACHE_FILES):
            problems.add(str(foreign(cache, advice, found=path)))
    problems.raise_any()


def clear_folder(folder: Path, of: str) -> None:
    """Remove what this program made for a set: its sounds, `samples.json`, and features."""
    if mark_in(folder, of) is not None:
        (folder / SAMPLES_FILE).unlink()
    for cache in _CACHES:
        remove_features(folder / cache)
    for path in own_sounds(folder, of):
        path.unlink()


def own_sounds(folder: Path, of: str) -> Iterable[Path]:
    """The sounds in a folder and below that this program made for a set."""
    return [path for path in folder.rglob(f"*{SOUND}") if not is_foreign_sample(path, of)]
