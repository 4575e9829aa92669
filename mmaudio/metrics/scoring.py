"""A folder of generated sounds and its references → one dictionary of numbers, ready for JSON.

Nothing here needs weights. A number that cannot be told is null with a reason beside it, never NaN.
"""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmaudio.base.errors import UserError
from mmaudio.base.naming import named
from mmaudio.base.ranks import Ranks
from mmaudio.metrics.clip_scores import ClipScore, score_pairs, shuffled_f1
from mmaudio.metrics.distances import FEWEST_FRAMES, MelTally, frechet_distance
from mmaudio.metrics.intervals import bootstrap_interval
from mmaudio.metrics.registry import EMBEDDED, METRICS, Metric
from mmaudio.metrics.result import counted, result
from mmaudio.metrics.sounds import Pairing, pair_ids

log = logging.getLogger(__name__)

COMPARED_RATE_HZ = 16_000  # both sounds of a pair are brought to it
ONE_CLIP = "only one clip was paired; it takes two to exchange their sounds and to tell an interval"
NO_CLIP = "none of the pairs could be scored; `failed` says why"


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _onset_section(clips: Sequence[ClipScore], shuffled: Sequence[float] | None, tolerance_s: float, seed: int) -> dict[str, Any]:
    scores = [clip.onsets.f1 for clip in clips]
    section = {
        "generated": _mean(scores),
        "shuffled": None if shuffled is None else _mean(shuffled),
        "interval": None if shuffled is None else list(bootstrap_interval(np.subtract(scores, shuffled), seed)),
        "precision": _mean([clip.onsets.precision for clip in clips]),
        "recall": _mean([clip.onsets.recall for clip in clips]),
        "mean_offset_s": _mean([clip.onsets.mean_offset_s for clip in clips if clip.onsets.mean_offset_s is not None]),
        "tolerance_s": tolerance_s,
    }
    return section if shuffled is not None else {**section, "reason": ONE_CLIP if clips else NO_CLIP}


def _frechet_section(generated: MelTally, real: MelTally) -> dict[str, Any]:
    fewest = min(generated.num_frames, real.num_frames)
    if fewest < FEWEST_FRAMES:
        reason = f"{fewest} frames of sound in the set; its spread needs at least {FEWEST_FRAMES}"
        return {"value": None, "unit": METRICS["mel_frechet"].unit, "reason": reason}
    a, b = generated.statistics(), real.statistics()
    return {"value": frechet_distance(a.mean, a.covariance, b.mean, b.covariance), "unit": METRICS["mel_frechet"].unit}


def _mean_entry(name: str, values: Sequence[float], seed: int, reason: str) -> dict[str, Any]:
    """A metric that is a mean over clips; `reason`: why it is null where there are none."""
    interval = bootstrap_interval(values, seed) if len(values) > 1 else None
    return METRICS[name].entry(_mean(values), interval=interval, num=len(values), reason=None if values else reason)


def _metrics(clips: Sequence[ClipScore], shuffled: Sequence[float] | None, frechet: Mapping[str, Any], seed: int) -> dict[str, Any]:
    offsets = [abs(clip.onsets.mean_offset_s) for clip in clips if clip.onsets.mean_offset_s is not None]
    no_offset = "no onset of a generated sound agrees with one of the real sound"
    return {
        "onset_f1": _mean_entry("onset_f1", [clip.onsets.f1 for clip in clips], seed, NO_CLIP),
        "onset_f1_shuffled": _mean_entry("onset_f1_shuffled", shuffled or [], seed, ONE_CLIP if clips else NO_CLIP),
        "onset_offset": _mean_entry("onset_offset", offsets, seed, no_offset),
        "spectral_distance": _mean_entry("spectral_distance", [clip.spectral_distance for clip in clips], seed, NO_CLIP),
        "mel_frechet": METRICS["mel_frechet"].entry(frechet["value"], num=len(clips), reason=frechet.get("reason")),
    }


def _row(clip: ClipScore, caption: str | None, shuffled: float | None, generated: Path, real: Path | None) -> dict[str, Any]:
    offset = clip.onsets.mean_offset_s
    return {
        "id": clip.id,
        "caption": caption,
        "onset_f1": clip.onsets.f1,
        "onset_f1_shuffled": shuffled,
        "precision": clip.onsets.precision,
        "recall": clip.onsets.recall,
        "mean_offset_s": offset,
        "spectral_distance": clip.spectral_distance,
        "generated_onsets_s": clip.generated_onsets.round(4).tolist(),
        "real_onsets_s": clip.real_onsets.round(4).tolist(),
        "generated_file": str(generated),
        "reference_file": None if real is None else str(real),
        "metrics": {
            "onset_f1": clip.onsets.f1,
            "onset_f1_shuffled": shuffled,
            "onset_offset": None if offset is None else abs(offset),
            "spectral_distance": clip.spectral_distance,
        },
    }


def paired_sounds(generated_dir: Path, reference: Collection[str], min_coverage: float = 0.0) -> Pairing:
    """Generated sounds and their references by id. Raises: UserError as `pair_ids`, and where less of the reference is paired."""
    pairing = pair_ids(generated_dir, reference)
    if len(pairing.paired) < min_coverage * len(reference):
        raise UserError(
            f"{generated_dir} has a sound of {len(pairing.paired)} of the {len(reference)} reference ids ({len(pairing.missing)} are"
            f" missing, such as {pairing.missing[0]!r}), and min_coverage is {min_coverage:g}; generate the rest, or lower it"
        )
    return pairing


def score_folder(
    generated_dir: Path,
    reference: Mapping[str, Path | None],
    *,
    duration_s: float,
    rate_hz: int = COMPARED_RATE_HZ,
    captions: Mapping[str, str] | None = None,
    tolerance_s: float = 0.1,
    seed: int = 0,
    min_coverage: float = 0.0,
    ranks: Ranks = Ranks(),  # noqa: B008 - frozen
    beat: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Collective. Score `<id>.flac` and `<id>.wav` files, named as `pair_ids` says, against reference sounds.

    Args:
        generated_dir: the samples.
        reference: id → audio file, or video file with sound; None where there is none, so that its pair cannot be scored.
        duration_s: how much of each sound is compared, from its start.
        rate_hz: at which both are compared.
        captions: id → caption, carried into the rows.
        tolerance_s: within which onsets agree.
        seed: of the bootstrap.
        min_coverage: share of the reference that has to have a sound.
        beat: called after every pair.
    Returns: `counts` (reference, predicted, paired, failed, and the ids left out), `metrics` (name → value, interval, unit, which way
        is better, clips it rests on), `onset_f1` (`generated`, `shuffled`: the sound generated for clip i against the real sounds of
        clips j ≠ i, `interval`: 95 % of the difference of the two, …), `spectral_distance` (mean, dB), `mel_frechet` (value, dB²),
        `clips` (a row each), `failed` (id and reason), `protocol` (what two results must share to be compared).
    Raises: UserError if no id, or too few of them, are on both sides.
    """
    pairing = paired_sounds(generated_dir, reference, min_coverage)
    scored = score_pairs(pairing, reference, duration_s=duration_s, rate_hz=rate_hz, tolerance_s=tolerance_s, ranks=ranks, beat=beat)
    clips, failed = scored.clips, scored.failed
    if failed:
        log.warning("%d of %d pairs not scored, such as %r: %s", len(failed), len(pairing.paired), failed[0]["id"], failed[0]["reason"])
    if scored.padded:
        log.warning(
            "%d generated sounds end before the real ones, and silence stands for the rest: %s", len(scored.padded), named(scored.padded)
        )
    shuffled = shuffled_f1(clips, tolerance_s, ranks).tolist() if len(clips) > 1 else None
    frechet = _frechet_section(scored.generated_mels, scored.real_mels)
    return result(
        [METRICS[name] for name in EMBEDDED],
        counts={**counted(reference, pairing.generated), "ends_early_ids": scored.padded},
        metrics=_metrics(clips, shuffled, frechet, seed),
        clips=_clip_rows(clips, shuffled, pairing, reference, captions or {}),
        failed=failed,
        sections={
            "onset_f1": _onset_section(clips, shuffled, tolerance_s, seed),
            "spectral_distance": {"mean": _mean([clip.spectral_distance for clip in clips]), "unit": METRICS["spectral_distance"].unit},
            "mel_frechet": frechet,
        },
        protocol={"duration_s": duration_s, "compared_rate_hz": rate_hz, "tolerance_s": tolerance_s, "seed": seed},
    )


def _clip_rows(
    clips: Sequence[ClipScore],
    shuffled: Sequence[float] | None,
    pairing: Pairing,
    reference: Mapping[str, Path | None],
    captions: Mapping[str, str],
) -> list[dict[str, Any]]:
    chance: Sequence[float | None] = shuffled or [None] * len(clips)
    return [
        _row(clip, captions.get(clip.id), by_chance, pairing.generated[clip.id], reference[clip.id])
        for clip, by_chance in zip(clips, chance, strict=True)
    ]


def without_reference(
    generated_dir: Path, captions: Mapping[str, str], rows: Sequence[Metric], reason: str, min_coverage: float = 0.0
) -> dict[str, Any]:
    """The same dictionary for sounds that are not compared with real ones here: `rows` are null for a reason.

    Raises: UserError where too few of the captions' ids have a sound.
    """
    pairing = paired_sounds(generated_dir, captions, min_coverage)
    clips: list[dict[str, Any]] = [
        {"id": name, "caption": captions[name], "generated_file": str(pairing.generated[name]), "reference_file": None, "metrics": {}}
        for name in pairing.paired
    ]
    metrics = {row.name: row.entry(None, reason=reason) for row in rows}
    return result(rows, counts=counted(captions, pairing.generated), metrics=metrics, clips=clips, protocol={})
