"""Each generated sound against the real one of its clip, and against those of other clips: what needs no weights.

Every process scores its share of the clips, and all of them end with the scores of all.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mmaudio.base.ranks import Ranks, gather_objects
from mmaudio.media.audio import MediaError
from mmaudio.metrics.alignment import OnsetScore, onset_f1, onset_times
from mmaudio.metrics.distances import MelTally, spectral_distance
from mmaudio.metrics.sounds import Pairing, read_pair

log = logging.getLogger(__name__)

MAX_SHIFTS = 64  # other clips each clip is scored against
NO_REAL_SOUND = "there is no real sound of it"
TOLD_FROM_S = 0.1  # of silence that is put in the place of sound


@dataclass(frozen=True)
class ClipScore:
    """How one generated sound compares with the real one of the same clip. Times in seconds, distance in dB."""

    id: str
    generated_onsets: npt.NDArray[np.float64]
    real_onsets: npt.NDArray[np.float64]
    onsets: OnsetScore
    spectral_distance: float


@dataclass(frozen=True)
class ScoredClips:
    """The clips of a set in the order of their ids, the pairs that could not be scored, and the mel frames of both sides."""

    clips: list[ClipScore] = field(default_factory=list)
    failed: list[dict[str, str]] = field(default_factory=list)
    generated_mels: MelTally = field(default_factory=lambda: MelTally(0))
    real_mels: MelTally = field(default_factory=lambda: MelTally(0))
    padded: list[str] = field(default_factory=list)  # ids whose generated sound ends early: silence followed it


def score_clip(clip_id: str, wave: npt.ArrayLike, truth: npt.ArrayLike, rate_hz: int, tolerance_s: float = 0.1) -> ClipScore:
    """Compare a generated wave with the real one, both (samples,) at `rate_hz`. Raises: ValueError for NaN."""
    found, real = onset_times(wave, rate_hz), onset_times(truth, rate_hz)
    return ClipScore(clip_id, found, real, onset_f1(found, real, tolerance_s), spectral_distance(wave, truth, rate_hz))


def score_pairs(
    pairing: Pairing,
    reference: Mapping[str, Path | None],
    *,
    duration_s: float,
    rate_hz: int,
    tolerance_s: float,
    ranks: Ranks,
    beat: Callable[[], None] = lambda: None,
) -> ScoredClips:
    """Collective. Read and score pair by pair. A pair that cannot be read is listed with its reason and stops nothing."""
    mine = ScoredClips(generated_mels=MelTally(rate_hz), real_mels=MelTally(rate_hz))
    for clip_id in pairing.paired[ranks.rank :: ranks.world_size]:
        beat()
        try:
            pair = read_pair(pairing.generated[clip_id], _known(reference[clip_id]), duration_s, rate_hz)
        except MediaError as error:
            mine.failed.append({"id": clip_id, "reason": str(error)})
            continue
        mine.clips.append(score_clip(clip_id, pair.generated, pair.real, rate_hz, tolerance_s))
        mine.generated_mels.add(pair.generated)
        mine.real_mels.add(pair.real)
        if pair.added_s > TOLD_FROM_S:
            mine.padded.append(clip_id)
    return _joined(gather_objects(mine), rate_hz)


def _known(real: Path | None) -> Path:
    if real is None:
        raise MediaError(NO_REAL_SOUND)
    return real


def _joined(parts: Sequence[ScoredClips], rate_hz: int) -> ScoredClips:
    clips = sorted((clip for part in parts for clip in part.clips), key=lambda clip: clip.id)
    failed = sorted((entry for part in parts for entry in part.failed), key=lambda entry: entry["id"])
    mels = ([part.generated_mels for part in parts], [part.real_mels for part in parts])
    padded = sorted(name for part in parts for name in part.padded)
    generated, real = (MelTally.joined(tallies, rate_hz) for tallies in mels)
    return ScoredClips(clips, failed, generated, real, padded)


def shifts(num_clips: int) -> list[int]:
    """By how many places the real sounds are moved on: every cyclic shift but 0, or 64 of them spread evenly."""
    return np.unique(np.linspace(1, num_clips - 1, min(MAX_SHIFTS, num_clips - 1)).round().astype(int)).tolist()


def shuffled_f1(clips: Sequence[ClipScore], tolerance_s: float, ranks: Ranks) -> npt.NDArray[np.float64]:
    """Collective. (clips,) F1 of each generated sound against other clips' real sounds, averaged over the shifts: what chance gives."""
    num = len(clips)

    def by_chance(place: int) -> float:
        others = (clips[(place + shift) % num].real_onsets for shift in shifts(num))
        return float(np.mean([onset_f1(clips[place].generated_onsets, real, tolerance_s).f1 for real in others]))

    mine = {place: by_chance(place) for place in range(ranks.rank, num, ranks.world_size)}
    found = {place: value for part in gather_objects(mine) for place, value in part.items()}
    return np.array([found[place] for place in range(num)])
