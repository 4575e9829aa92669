"""A folder of sounds against the real ones, clip by clip, to numbers; no weights.

Every process scores its share of the clips, and all of them end with the scores of all.
"""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmaudio.base.errors import UserError, named
from mmaudio.distributed.collectives import gather_objects
from mmaudio.distributed.ranks import Ranks
from mmaudio.files.file_names import file_name, given_path
from mmaudio.files.owned_files import read_ids
from mmaudio.media.audio import MediaError
from mmaudio.media.resampling import resample
from mmaudio.media.suffixes import files_by_id, list_below, split_suffix
from mmaudio.media.video import read_sound
from mmaudio.metrics.distances import FEWEST_FRAMES, MelTally, frechet_distance, spectral_distance
from mmaudio.metrics.intervals import bootstrap_interval
from mmaudio.metrics.onsets import OnsetScore, onset_f1, onset_times
from mmaudio.metrics.registry import EMBEDDED, METRICS, Metric
from mmaudio.metrics.results import counted, result

log = logging.getLogger(__name__)


# ---- Pairs of sounds: which generated file belongs to which reference, and both as waves of one length

Wave = npt.NDArray[np.float32]
SHORTEST_S = 0.2  # of a sound that can be compared
GENERATED_SUFFIXES = (".flac", ".wav")
SAMPLE_SUFFIXES = (".flac",)  # of what this program generates


@dataclass(frozen=True)
class Pairing:
    """Ids on both sides, and those of one side only, each sorted."""

    generated: dict[str, Path]
    paired: list[str]
    missing: list[str]  # in the reference, not generated
    unexpected: list[str]  # generated, not in the reference


def generated_sounds(folder: Path, ids: Collection[str], *, only_samples: bool = False) -> dict[str, Path]:
    """Id → its sound in a folder or in one below, of those of `ids` that have one. Raises: UserError for no such folder.

    Args:
        only_samples: take `.flac` alone, which this program writes, and no `.wav`.
    """
    suffixes = SAMPLE_SUFFIXES if only_samples else GENERATED_SUFFIXES
    found = {name_id: path for name_id, path in files_by_id(folder, ids, suffixes).items() if path.is_file()}
    loose = {name_id for name_id in found if given_path(name_id) not in (None, file_name(name_id))}  # "./a", which may mean the file of "a"
    exact = {path for name_id, path in found.items() if name_id not in loose}
    return {name_id: path for name_id, path in found.items() if name_id not in loose or path not in exact}


def other_sounds(folder: Path, asked: Mapping[str, Path]) -> dict[str, Path]:
    """Id → sound of all other sounds in a folder and below: by what `samples.json` says there, or the path without its suffix.

    Raises: UserError where there are two files of one id.
    """
    ids, taken, known = read_ids(folder), set(asked.values()), dict[str, str]()
    others: dict[str, Path] = {}
    for name in list_below(folder, GENERATED_SUFFIXES):
        stem, _ = split_suffix(name)
        if (twin := known.setdefault(stem, name)) != name:
            raise UserError(f"{folder} holds both {twin} and {name}; keep one sound for each id")
        if folder / name not in taken:
            others[ids.get(name, stem)] = folder / name
    return {name_id: path for name_id, path in others.items() if name_id not in asked}


def pair_ids(generated_dir: Path, reference: Collection[str], *, only_samples: bool = False) -> Pairing:
    """Match `<id>.flac` and `<id>.wav` of a folder to reference ids, exactly: an id may hold dots, and no letter is changed.

    An id may lead to a folder below ("street/rain"), and one that cannot be a file name has the name that it got when it was sampled.
    With `only_samples`, those sounds alone count that this program writes for these ids, whatever else is in the folder.
    Raises: UserError for no such folder, no sound in it, two files of one id, or no id on both sides.
    """
    if not generated_dir.is_dir():
        raise UserError(f"no folder at {generated_dir}; generate samples first")
    asked = generated_sounds(generated_dir, reference, only_samples=only_samples)
    others = {} if only_samples else other_sounds(generated_dir, asked)
    if not asked and not others:
        raise UserError(f"{generated_dir} holds no .flac or .wav file; generate samples first")
    if not asked:
        ours, theirs = next(iter(others)), next(iter(reference), "none")
        raise UserError(
            f"no id of the {len(others)} sounds in {generated_dir} (such as {ours!r}) is among the {len(reference)} reference ids "
            f"(such as {theirs!r}); file names without suffix must equal the ids"
        )
    return Pairing({**asked, **others}, sorted(asked), sorted(set(reference) - asked.keys()), sorted(others))


def read_wave(path: Path, duration_s: float, rate_hz: int) -> Wave:
    """The first `duration_s` of a file's sound, channels averaged, at `rate_hz`: (samples,), shorter where the file is.

    Args:
        path: an audio file, or a video file with sound.
    Raises: MediaError with a plain reason.
    """
    if not path.is_file():
        raise MediaError(f"no file at {path}")
    sound = read_sound(path)
    wave = np.asarray(resample(sound.wave, sound.rate_hz, rate_hz), dtype=np.float32)
    return wave[: round(duration_s * rate_hz)]


@dataclass(frozen=True)
class Pair:
    """A generated and a real sound of one length, (samples,) each; `added_s` of silence follow what was generated."""

    generated: Wave
    real: Wave
    added_s: float


def read_pair(generated: Path, real: Path, duration_s: float, rate_hz: int) -> Pair:
    """Both sounds at the real one's length (at most `duration_s`): a generated one is cut, or followed by silence.

    Raises: MediaError for a sound that cannot be read, holds NaN, or is too short to be compared: below 0.2 s, and for the generated
        one below half of the real one.
    """
    wave, truth = read_wave(generated, duration_s, rate_hz), read_wave(real, duration_s, rate_hz)
    for path, samples in ((generated, wave), (real, truth)):
        if len(samples) < SHORTEST_S * rate_hz:
            raise MediaError(
                f"{path.name} is too short to be compared: {len(samples) / rate_hz:.2f} s of sound, want at least {SHORTEST_S} s"
            )
        if not np.isfinite(samples).all():
            raise MediaError(f"{path.name} holds samples that are not finite numbers")
    missing = max(0, len(truth) - len(wave))
    if missing > len(truth) / 2:
        raise MediaError(
            f"{generated.name} is too short: {len(wave) / rate_hz:.2f} s of sound, and the real one has {len(truth) / rate_hz:.2f} s"
        )
    return Pair(np.pad(wave, (0, missing))[: len(truth)], truth, missing / rate_hz)


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


# ---- A folder of sounds and its references → one dictionary of numbers, ready for JSON

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


def paired_sounds(generated_dir: Path, reference: Collection[str], min_coverage: float = 0.0, *, only_samples: bool = False) -> Pairing:
    """Generated sounds and their references by id. Raises: UserError as `pair_ids`, and where less of the reference is paired."""
    pairing = pair_ids(generated_dir, reference, only_samples=only_samples)
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
    only_samples: bool = False,
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
        only_samples: as `pair_ids` has it.
        beat: called after every pair.
    Returns: `counts` (reference, predicted, paired, failed, and the ids left out), `metrics` (name → value, interval, unit, which way
        is better, clips it rests on), `onset_f1` (`generated`, `shuffled`: the sound generated for clip i against the real sounds of
        clips j ≠ i, `interval`: 95 % of the difference of the two, …), `spectral_distance` (mean, dB), `mel_frechet` (value, dB²),
        `clips` (a row each), `failed` (id and reason), `protocol` (what two results must share to be compared).
    Raises: UserError if no id, or too few of them, are on both sides.
    """
    pairing = paired_sounds(generated_dir, reference, min_coverage, only_samples=only_samples)
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
    generated_dir: Path,
    captions: Mapping[str, str],
    rows: Sequence[Metric],
    reason: str,
    min_coverage: float = 0.0,
    *,
    only_samples: bool = False,
) -> dict[str, Any]:
    """The same dictionary for sounds that are not compared with real ones here: `rows` are null for a reason.

    Raises: UserError where too few of the captions' ids have a sound.
    """
    pairing = paired_sounds(generated_dir, captions, min_coverage, only_samples=only_samples)
    clips: list[dict[str, Any]] = [
        {"id": name, "caption": captions[name], "generated_file": str(pairing.generated[name]), "reference_file": None, "metrics": {}}
        for name in pairing.paired
    ]
    metrics = {row.name: row.entry(None, reason=reason) for row in rows}
    return result(rows, counts=counted(captions, pairing.generated), metrics=metrics, clips=clips, protocol={})
