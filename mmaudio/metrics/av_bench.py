"""The published evaluation itself (`metrics.engine=av_bench`): calls the package av_bench, where the user has installed it.

It is on no package registry. Source of its interface: av_benchmark.md sections 2 and 4.
"""

import logging
import math
from collections.abc import Collection, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmaudio.base.errors import RejectsError, UserError
from mmaudio.base.file_names import file_name
from mmaudio.base.files import atomic_path, scratch_folder, text_hash
from mmaudio.metrics.cache_files import CACHE_FILES, cache_path
from mmaudio.metrics.cached import Measured
from mmaudio.metrics.registry import Metric
from mmaudio.metrics.result import counted
from mmaudio.metrics.sounds import generated_sounds, other_sounds

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
) -> Measured:
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

    Returns: the metrics wanted, null with a reason where the package does not tell them. `num` counts the sounds, or the ids on both
        sides for what needs pairs. No intervals and nothing by clip. `counts["without_features"]["predicted"]`: id → reason.
    Raises: UserError if the package is not installed, or there is no reference; RejectsError if no sound can be judged.
    """
    check_av_bench()
    if reference_cache is None or not reference_cache.is_dir():
        found = "none was named" if reference_cache is None else f"there is no folder at {reference_cache}"
        raise UserError(f"metrics.engine=av_bench compares with the reference's cache files, and {found}; give metrics.reference_cache=DIR")
    wanted = [row for row in rows if not row.is_embedded]
    names = {row.name for row in wanted}
    skips = {"skip_video_related": not names & VIDEO_METRICS, "skip_clap": not names & CLAP_METRICS}
    sounds, failures = _readable_sounds(folder, ids, duration_s)
    flat_names = _flat_names(sounds)
    cache = folder / CACHE
    cache.mkdir(exist_ok=True)
    with scratch_folder(folder / "av_bench-sounds") as chosen:
        for clip_id, path in sounds.items():
            (chosen / (flat_names[clip_id] + path.suffix.lower())).symlink_to(path.resolve())
        _extract(chosen, cache, skips, audio_length=duration_s, device=str(device), batch_size=batch_size, num_workers=num_workers)
    _give_ids(cache, {name: clip_id for clip_id, name in flat_names.items() if name != clip_id})
    told = _evaluate(reference_cache, cache, skips)
    counts = _counts(reference_cache, sounds, failures)
    nums = {row.name: counts["paired"] if row.needs_pairs else len(sounds) for row in wanted}
    return Measured({row.name: _entry(row, told, nums[row.name]) for row in wanted}, {}, counts)


def _readable_sounds(folder: Path, ids: Collection[str], duration_s: float) -> tuple[dict[str, Path], dict[str, str]]:
    """Id → file of the sounds that can be judged, and id → reason of those that cannot. Raises: RejectsError if none can."""
    asked = generated_sounds(folder, ids)
    files = {**asked, **{clip_id: path for clip_id, path in other_sounds(folder, asked).items() if path.parent == folder}}
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

    from mmaudio.base.tensor_files import read_tensor_file

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
    from mmaudio.metrics.caches import read_features

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
