"""Pairs of sounds to compare: which generated file belongs to which reference, and both as waves of one length."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mmaudio.base.errors import UserError
from mmaudio.base.file_names import file_name, given_path
from mmaudio.base.samples_file import read_ids
from mmaudio.media.audio import MediaError, resample
from mmaudio.media.suffixes import files_by_id, list_below, split_suffix
from mmaudio.media.video import read_sound

Wave = npt.NDArray[np.float32]
SHORTEST_S = 0.2  # of a sound that can be compared
GENERATED_SUFFIXES = (".flac", ".wav")


@dataclass(frozen=True)
class Pairing:
    """Ids on both sides, and those of one side only, each sorted."""

    generated: dict[str, Path]
    paired: list[str]
    missing: list[str]  # in the reference, not generated
    unexpected: list[str]  # generated, not in the reference


def generated_sounds(folder: Path, ids: Collection[str]) -> dict[str, Path]:
    """Id → its `.flac` or `.wav` in a folder or in one below, of those of `ids` that have one. Raises: UserError for no such folder."""
    found = {name_id: path for name_id, path in files_by_id(folder, ids, GENERATED_SUFFIXES).items() if path.is_file()}
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


def pair_ids(generated_dir: Path, reference: Collection[str]) -> Pairing:
    """Match `<id>.flac` and `<id>.wav` of a folder to reference ids, exactly: an id may hold dots, and no letter is changed.

    An id may lead to a folder below ("street/rain"), and one that cannot be a file name has the name that it got when it was sampled.
    Raises: UserError for no such folder, no sound in it, two files of one id, or no id on both sides.
    """
    if not generated_dir.is_dir():
        raise UserError(f"no folder at {generated_dir}; generate samples first")
    asked = generated_sounds(generated_dir, reference)
    others = other_sounds(generated_dir, asked)
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
