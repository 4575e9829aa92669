"""The published evaluation itself (`metrics.engine=av_bench`): calls the package av_bench, where the user has installed it.

It is on no package registry. Source of its interface: av_benchmark.md sections 2 and 4.
"""

import logging
import math
import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmaudio.base.errors import RejectsError, UserError
from mmaudio.files.atomic import atomic_path, scratch_folder, sync_file, text_hash
from mmaudio.files.file_names import file_name
from mmaudio.files.ownership import foreign, mark_archive_
from mmaudio.metrics.feature_cache import CACHE_FILES, cache_path, features_mark, foreign_features
from mmaudio.metrics.feature_scores import MeasuredMetrics
from mmaudio.metrics.registry import Metric
from mmaudio.metrics.results import counted
from mmaudio.metrics.sound_scores import generated_sounds, other_sounds

log = logging.getLogger(__name__)
PACKAGE = "av_bench"
CACHE = "av_bench-cache"  # below the folder of sounds; apart from features of our own making, which have a record
MARKER = "passt_features_embed"  # of its cache files the one that both sides always have
VIDEO_METRICS, CLAP_METRICS = {"IB-Score", "DeSync"}, {"LAION-CLAP-Score", "MS-CLAP-Score"}
FEW_CLIPS = 10  # fewer leave parts of an inception score empty
NO_ROOT = -1.0  # what it gives for a Frechet distance that has none


def check_av_bench() -> None:
    """Raises: UserError if the package is not installed."""
    if find_spec(PACKAGE) is None:
        raise UserError(
            "metrics.engine=av_bench needs the package av_bench, which is not installed and is on no package registry; install it from"
            " its repository, as README.md says, or give metrics.engine=own"
        )


def run_av_bench(
    rows: Sequence[Metric],
    reference_cache: Path | None,
    folder: Path,
    duration_s: float,
    device: Any,
    *,
    batch_size: int,
    num_workers: int,
    ids: Collection[str] = (),
    only_samples: bool = False,
) -> MeasuredMetrics:
    """Let the package extract features of a folder's sounds, and compare them with the reference's cache.

    A sound that it cannot read it would replace by the next one, and look for that for ever if there is none; so sounds are read
    here first, and those that fail are left out and counted.

    Args:
        rows: the metrics wanted; features that none of them needs are skipped, embedded metrics are not told.
        reference_cache: the folder of the reference's cache files, as its own tools make them.
        folder: of .flac and .wav files, one for each id; the features go to `av_bench-cache` in it, by id.
        duration_s: of each sound; a shorter one cannot be judged.
        device: what the package is to compute on; published versions know CUDA alone.
        batch_size: of its networks.
        num_workers: its processes that read sounds.
        ids: whose sounds are looked for in folders below, too; of others, those of `folder` itself are taken.
        only_samples: leave the others out.

    Returns: the metrics wanted, null with a reason where the package does not tell them. `num` counts the sounds, or the ids on both
        sides for what needs pairs. No intervals and nothing by clip. `counts["without_features"]["predicted"]`: id → reason.
    Raises: UserError if the package is not installed, there is no reference, or features that are not ours are in the way of those it
        makes; RejectsError if no sound can be judged.
    """
    check_av_bench()
    if reference_cache is None or not reference_cache.is_dir():
        found = "none was named" if reference_cache is None else f"there is no folder at {reference_cache}"
        raise UserError(f"metrics.engine=av_bench compares with the reference's cache files, and {found}; give metrics.reference_cache=DIR")
    wanted = [row for row in rows if not row.is_embedded]
    names = {row.name for row in wanted}
    skips = {"skip_video_related": not names & VIDEO_METRICS, "skip_clap": not names & CLAP_METRICS}
    sounds, failures = _readable_sounds(folder, ids, duration_s, only_samples=only_samples)
    flat_names = _flat_names(sounds)
    cache = folder / CACHE
    if in_the_way := foreign_features(cache, CACHE_FILES):
        raise foreign(cache, found=in_the_way[0])
    cache.mkdir(exist_ok=True)
    with scratch_folder(folder / "av_bench-work") as work:
        chosen, made = work / "sounds", work / "features"
        chosen.mkdir()
        made.mkdir()
        for clip_id, path in sounds.items():
            (chosen / (flat_names[clip_id] + path.suffix.lower())).symlink_to(path.resolve())
        _extract(chosen, made, skips, audio_length=duration_s, device=str(device), batch_size=batch_size, num_workers=num_workers)
        _give_ids(made, {name: clip_id for clip_id, name in flat_names.items() if name != clip_id})
        _take_over(made, cache)
    told = _evaluate(reference_cache, cache, skips)
    counts = _counts(reference_cache, sounds, failures)
    nums = {row.name: counts["paired"] if row.needs_pairs else len(sounds) for row in wanted}
    return MeasuredMetrics({row.name: _entry(row, told, nums[row.name]) for row in wanted}, {}, counts)


def _take_over(made: Path, cache: Path) -> None:
    """Bring what the package made to its place, with a mark that says that it was made here."""
    for stem in CACHE_FILES:
        file, place = cache_path(made, stem), cache_path(cache, stem)
        if file.is_file():
            with suppress(ValueError):  # no archive, which cannot be marked; another call will refuse to replace it
                mark_archive_(file, features_mark(place))
            sync_file(file)
            os.replace(file, place)


def _readable_sounds(
    folder: Path, ids: Collection[str], duration_s: float, *, only_samples: bool
) -> tuple[dict[str, Path], dict[str, str]]:
    """Id → file of the sounds that can be judged, and id → reason of those that cannot. Raises: RejectsError if none can."""
    asked = generated_sounds(folder, ids, only_samples=only_samples)
    others = {} if only_samples else {name_id: path for name_id, path in other_sounds(folder, asked).items() if path.parent == folder}
    files = {**asked, **others}
    reasons = {clip_id: _unreadable(path, duration_s) for clip_id, path in sorted(files.items())}
    failures = {clip_id: reason for clip_id, reason in reasons.items() if reason is not None}
    sounds = {clip_id: path for clip_id, path in sorted(files.items()) if clip_id not in failures}
    first = next(iter(failures.items()), ("", ""))
    if not sounds:
        why = f"the first: {first[0]!r}: {first[1]}" if failures else "there is none"
        raise RejectsError(f"none of the {len(files)} sounds in {folder} can be judged; {why}")
    if failures:
        log.warning("%d of %d sounds are left out, such as %r: %s", len(failures), len(files), *first)
    return sounds, failures


def _flat_names(ids: Collection[str]) -> dict[str, str]:
    """Id → the stem of its sound in one flat folder, which is all that the package lists; an id that can be one is its own."""
    return {clip_id: clip_id if _is_flat(clip_id) else f"~{text_hash([clip_id])}" for clip_id in ids}


def _is_flat(clip_id: str) -> bool:
    return "/" not in clip_id and file_name(clip_id, ".flac") == f"{clip_id}.flac"


def _give_ids(cache: Path, ids: Mapping[str, str]) -> None:
    """Call clips by their ids in cache files that the package made; `ids`: stem of a sound → id, of those that differ."""
    import torch

    from mmaudio.files.tensor_files import read_tensor_file

    for path in (cache_path(cache, stem) for stem in CACHE_FILES) if ids else ():
        if path.is_file():
            features = {ids.get(name, name): value for name, value in read_tensor_file(path).items()}
            with atomic_path(path) as temporary:
                torch.save(features, temporary)


def _unreadable(path: Path, duration_s: float) -> str | None:
    """Why the package could not use a sound; None if it can."""
    from mmaudio.media.audio import MediaError, read_audio

    try:
        sound = read_audio(path)
    except MediaError as error:
        return str(error)
    return f"too short: {sound.duration_s:.2f} s of sound, want {duration_s:g} s" if sound.duration_s < duration_s else None


def _extract(sounds: Path, cache: Path, skips: Mapping[str, bool], **how: Any) -> None:
    from av_bench.extract import extract

    extract(audio_path=sounds, output_path=cache, **how, **skips)


def _evaluate(reference_cache: Path, cache: Path, skips: Mapping[str, bool]) -> Mapping[str, Any]:
    from av_bench.evaluate import evaluate

    told: Mapping[str, Any] = evaluate(gt_audio_cache=reference_cache, pred_audio_cache=cache, is_paired=True, num_samples=1, **skips)
    return told


def _counts(reference_cache: Path, sounds: Mapping[str, Path], failures: Mapping[str, str]) -> dict[str, Any]:
    """How many clips there are. By exact ids: those that the package shortens before it pairs them count as missing."""
    from mmaudio.metrics.feature_cache import read_features

    return {**counted(read_features(reference_cache, MARKER), sounds), "without_features": {"predicted": dict(failures)}}


def _entry(row: Metric, told: Mapping[str, Any], num: int) -> dict[str, Any]:
    """A metric as scores have it."""
    if row.name not in told:
        return row.entry(None, num=num, reason="av_bench does not tell it: a cache has no features for it")
    value = float(told[row.name])
    if not math.isfinite(value):
        few = f"; it takes at least {FEW_CLIPS} clips" if row.formula.startswith("inception") and num < FEW_CLIPS else ""
        return row.entry(None, num=num, reason=f"av_bench gives no finite number{few}")
    if row.formula == "frechet" and value == NO_ROOT:
        return row.entry(None, num=num, reason="av_bench finds no real matrix root: too few clips, or features of another kind")
    return row.entry(value, num=num)
