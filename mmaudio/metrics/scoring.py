"""A folder of generated sounds and its references → one dictionary of numbers, ready for JSON.

Nothing here needs weights. A number that cannot be told is null with a reason beside it, never NaN.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmaudio.base.errors import UserError
from mmaudio.base.files import text_hash
from mmaudio.metrics.alignment import OnsetScore, onset_f1, onset_times
from mmaudio.metrics.distances import MelTally, frechet_distance, spectral_distance
from mmaudio.metrics.intervals import bootstrap_interval
from mmaudio.metrics.sounds import Pairing, pair_ids, read_pair

log = logging.getLogger(__name__)

PROTOCOL_VERSION = 1  # raised whenever one of these numbers comes to mean something else
MAX_SHIFTS = 64  # other clips each clip is scored against
ONE_CLIP = "only one clip was paired; it takes two to exchange their sounds and to tell an interval"


@dataclass(frozen=True)
class ClipScore:
    """How one generated sound compares with the real one of the same clip. Times in seconds, distance in dB."""

    id: str
    generated_onsets: npt.NDArray[np.float64]
    real_onsets: npt.NDArray[np.float64]
    onsets: OnsetScore
    spectral_distance: float


def shifts(num_clips: int) -> list[int]:
    """By how many places the real sounds are moved on: every cyclic shift but 0, or 64 of them spread evenly."""
    return np.unique(np.linspace(1, num_clips - 1, min(MAX_SHIFTS, num_clips - 1)).round().astype(int)).tolist()


def shuffled_f1(clips: Sequence[ClipScore], tolerance_s: float) -> npt.NDArray[np.float64]:
    """(clips,) F1 of each generated sound against other clips' real sounds, averaged over the shifts: what chance gives."""
    num = len(clips)
    against = [[clips[(place + shift) % num].real_onsets for shift in shifts(num)] for place in range(num)]
    pairs = zip(clips, against, strict=True)
    return np.array([np.mean([onset_f1(clip.generated_onsets, real, tolerance_s).f1 for real in others]) for clip, others in pairs])


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _onset_section(clips: Sequence[ClipScore], shuffled: npt.NDArray[np.float64] | None, tolerance_s: float, seed: int) -> dict[str, Any]:
    scores = np.array([clip.onsets.f1 for clip in clips])
    section = {
        "generated": float(scores.mean()),
        "shuffled": None if shuffled is None else float(shuffled.mean()),
        "interval": None if shuffled is None else list(bootstrap_interval(scores - shuffled, seed)),
        "precision": _mean([clip.onsets.precision for clip in clips]),
        "recall": _mean([clip.onsets.recall for clip in clips]),
        "mean_offset_s": _mean([clip.onsets.mean_offset_s for clip in clips if clip.onsets.mean_offset_s is not None]),
        "tolerance_s": tolerance_s,
    }
    return section if shuffled is not None else {**section, "reason": ONE_CLIP}


def _frechet_section(generated: MelTally, real: MelTally) -> dict[str, Any]:
    try:
        a, b = generated.statistics(), real.statistics()
    except ValueError as error:
        return {"value": None, "unit": "dB^2", "reason": str(error)}
    return {"value": frechet_distance(a.mean, a.covariance, b.mean, b.covariance), "unit": "dB^2"}


def _row(clip: ClipScore, caption: str | None, shuffled: float | None) -> dict[str, Any]:
    return {
        "id": clip.id,
        "caption": caption,
        "onset_f1": clip.onsets.f1,
        "onset_f1_shuffled": shuffled,
        "precision": clip.onsets.precision,
        "recall": clip.onsets.recall,
        "mean_offset_s": clip.onsets.mean_offset_s,
        "spectral_distance": clip.spectral_distance,
        "generated_onsets_s": clip.generated_onsets.round(4).tolist(),
        "real_onsets_s": clip.real_onsets.round(4).tolist(),
    }


def score_clip(clip_id: str, wave: npt.ArrayLike, truth: npt.ArrayLike, rate_hz: int, tolerance_s: float = 0.1) -> ClipScore:
    """Compare a generated wave with the real one, both (samples,) at `rate_hz`. Raises: ValueError for NaN."""
    found, real = onset_times(wave, rate_hz), onset_times(truth, rate_hz)
    return ClipScore(clip_id, found, real, onset_f1(found, real, tolerance_s), spectral_distance(wave, truth, rate_hz))


@dataclass(frozen=True)
class _Scored:
    clips: list[ClipScore]
    failed: list[dict[str, str]]
    generated_mels: MelTally
    real_mels: MelTally


def _score_pairs(pairing: Pairing, reference: Mapping[str, Path], duration_s: float, rate_hz: int, tolerance_s: float) -> _Scored:
    """Read and score pair by pair. A pair that cannot be read is listed with its reason and stops nothing."""
    scored = _Scored([], [], MelTally(rate_hz), MelTally(rate_hz))
    for clip_id in pairing.paired:
        try:
            wave, truth = read_pair(pairing.generated[clip_id], reference[clip_id], duration_s, rate_hz)
        except ValueError as error:
            scored.failed.append({"id": clip_id, "reason": str(error)})
            continue
        scored.clips.append(score_clip(clip_id, wave, truth, rate_hz, tolerance_s))
        scored.generated_mels.add(wave)
        scored.real_mels.add(truth)
    return scored


def score_folder(
    generated_dir: Path,
    reference: Mapping[str, Path],
    *,
    duration_s: float,
    rate_hz: int = 16_000,
    captions: Mapping[str, str] | None = None,
    tolerance_s: float = 0.1,
    seed: int = 0,
) -> dict[str, Any]:
    """Score `<id>.flac` and `<id>.wav` files against reference sounds.

    Args:
        generated_dir: the samples.
        reference: id → audio file, or video file with sound.
        duration_s: how much of each sound is compared, from its start.
        rate_hz: at which both are compared.
        captions: id → caption, carried into the rows.
        tolerance_s: within which onsets agree.
        seed: of the bootstrap.
    Returns: `counts` (reference, predicted, paired, failed, and the ids left out), `onset_f1` (`generated`, `shuffled`: the
        sound generated for clip i against the real sounds of clips j ≠ i, `interval`: 95 % of the difference of the
        two, …), `spectral_distance` (mean, dB), `mel_frechet` (value, dB²), `clips` (a row each), `failed` (id and
        reason), `protocol` (what two results must share to be compared).
    Raises: UserError if no id is on both sides, or none of the pairs can be read.
    """
    pairing = pair_ids(generated_dir, reference)
    scored = _score_pairs(pairing, reference, duration_s, rate_hz, tolerance_s)
    clips, failed = scored.clips, scored.failed
    if not clips:
        raise UserError(f"none of the {len(pairing.paired)} pairs can be scored; the first: {failed[0]['id']!r}: {failed[0]['reason']}")
    if failed:
        log.warning("%d of %d pairs not scored, such as %r: %s", len(failed), len(pairing.paired), failed[0]["id"], failed[0]["reason"])
    shuffled = shuffled_f1(clips, tolerance_s) if len(clips) > 1 else None
    chance = [None] * len(clips) if shuffled is None else shuffled.tolist()
    counts = {"reference": len(reference), "predicted": len(pairing.generated), "paired": len(clips), "failed": len(failed)}
    return {
        "counts": {**counts, "missing_ids": pairing.missing, "unexpected_ids": pairing.unexpected},
        "onset_f1": _onset_section(clips, shuffled, tolerance_s, seed),
        "spectral_distance": {"mean": _mean([clip.spectral_distance for clip in clips]), "unit": "dB"},
        "mel_frechet": _frechet_section(scored.generated_mels, scored.real_mels),
        "clips": [_row(clip, (captions or {}).get(clip.id), chance[place]) for place, clip in enumerate(clips)],
        "failed": failed,
        "protocol": {
            "version": PROTOCOL_VERSION,
            "duration_s": duration_s,
            "rate_hz": rate_hz,
            "tolerance_s": tolerance_s,
            "seed": seed,
            "ids_hash": text_hash([clip.id for clip in clips]),
        },
    }
