"""Example media as files: the training guide's two videos and two recordings, and a learning set with held-out clips."""

import json
import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mmaudio.base.files import atomic_folder, text_hash, write_text
from mmaudio.base.logs import progress
from mmaudio.base.made_folders import check_made, write_record
from mmaudio.base.tables import format_table
from mmaudio.media.audio import write_flac, write_wav
from mmaudio.media.example import FPS, MATERIALS, Bounces, describe, draw_bounces, render_frames, render_sound
from mmaudio.media.write import write_video

log = logging.getLogger(__name__)

GUIDE_VIDEOS = ("0B4dYTMsgHA_000130", "F8Zt3mYlOqU_000094")
GUIDE_AUDIOS = ("00008004", "00008009")
LEARNING_SET_RECORD = "learning_set.json"
LEARNING_SET_FILES = ("train", "heldout", "audio", "*.tsv", LEARNING_SET_RECORD)
_KIND, _ADVICE = "learning set", "name another folder"
GUIDE_VIDEO_S = 10.2
GUIDE_AUDIO_S = 29.0
GUIDE_AUDIO_HZ = 48_000
VIDEO_SOUND_HZ = 44_100
GUIDE_SEED = 14_159_265


@dataclass(frozen=True)
class LearningSet:
    """How much example media to make, and the seed it is a function of."""

    num_train: int = 480
    num_heldout: int = 64
    num_audio: int = 16
    clip_s: float = 2.56  # 64 frames
    audio_s: float = 12.0
    seed: int = 2412


def _write_clip(path: Path, bounces: Bounces) -> None:
    write_video(path, iter(render_frames(bounces)), FPS, render_sound(bounces, VIDEO_SOUND_HZ), VIDEO_SOUND_HZ)


def make_guide_example(folder: Path) -> None:
    """The guide's example under `folder` (training/): whatever of it is missing, nothing that is there is touched.

    example_videos/*.mp4 with example_video.tsv (id, label), example_audios/*.flac with example_audio.tsv (id, caption).
    """
    videos = {name: draw_bounces(GUIDE_SEED, "guide", index, GUIDE_VIDEO_S) for index, name in enumerate(GUIDE_VIDEOS)}
    audios = {name: draw_bounces(GUIDE_SEED, "guide audio", index, GUIDE_AUDIO_S) for index, name in enumerate(GUIDE_AUDIOS)}
    for name, bounces in videos.items():
        path = folder / "example_videos" / f"{name}.mp4"
        if not os.path.lexists(path):
            log.info("making %s", path)
            _write_clip(path, bounces)
    for name, bounces in audios.items():
        path = folder / "example_audios" / f"{name}.flac"
        if not os.path.lexists(path):
            log.info("making %s", path)
            write_flac(path, render_sound(bounces, GUIDE_AUDIO_HZ), GUIDE_AUDIO_HZ)
    for path, column, made in (
        (folder / "example_video.tsv", "label", videos),
        (folder / "example_audio.tsv", "caption", audios),
    ):
        if not os.path.lexists(path):
            write_text(path, format_table(("id", column), [(name, bounces.ball.caption) for name, bounces in made.items()]))


def make_learning_set(folder: Path, wanted: LearningSet) -> None:
    """Train and held-out videos and long recordings, each with a table: train/ heldout/ audio/ and <name>.tsv.

    Made anew unless the folder holds a set with these parameters; swapped in whole, so that a kill leaves no half set.
    Raises: UserError for a folder that holds anything but a learning set as this function made it: it would be lost.
    """
    record = folder / LEARNING_SET_RECORD
    want = {**wanted.__dict__, "version": 1}
    known = _made_with(record)
    if known == want:
        return
    check_made(record, _KIND, _name_of(known), _ADVICE)
    with atomic_folder(folder, LEARNING_SET_FILES) as fresh:
        told: dict[str, object] = {"made_with": want}
        for split, count in (("train", wanted.num_train), ("heldout", wanted.num_heldout)):
            clips = {f"{split}_{i:04d}": draw_bounces(wanted.seed, split, i, wanted.clip_s) for i in range(count)}
            for name, bounces in progress(clips.items(), count, f"make {split} clips"):
                (fresh / split).mkdir(exist_ok=True)
                _write_clip(fresh / split / f"{name}.mp4", bounces)
            _write_captions(fresh / f"{split}.tsv", "label", clips)
            told[split] = {name: describe(bounces) for name, bounces in clips.items()}
        _write_wrong_captions(fresh / "heldout_wrong.tsv", clips)  # of the last split, the held-out one
        sounds = {f"audio_{i:04d}": draw_bounces(wanted.seed, "audio", i, wanted.audio_s) for i in range(wanted.num_audio)}
        for index, (name, bounces) in enumerate(sounds.items()):
            (fresh / "audio").mkdir(exist_ok=True)
            write = write_wav if index % 4 == 3 else write_flac
            write(
                fresh / "audio" / f"{name}.{'wav' if index % 4 == 3 else 'flac'}",
                np.asarray(render_sound(bounces, VIDEO_SOUND_HZ)),
                VIDEO_SOUND_HZ,
            )
        _write_captions(fresh / "audio.tsv", "caption", sounds)
        write_record(fresh / record.name, _KIND, _name_of(want), told)
        check_made(record, _KIND, _name_of(known), _ADVICE)  # making took a while


def _made_with(record: Path) -> object:
    """The parameters of the set that a record is of; None where it is none."""
    try:
        return json.loads(record.read_text(encoding="utf-8"))["made_with"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def _name_of(made_with: object) -> str:
    """What a set's mark calls it: a hash of its parameters."""
    return text_hash([json.dumps(made_with, sort_keys=True)])


def _write_captions(path: Path, column: str, clips: dict[str, Bounces]) -> None:
    write_text(path, format_table(("id", column), [(name, bounces.ball.caption) for name, bounces in clips.items()]))


def _write_wrong_captions(path: Path, clips: dict[str, Bounces]) -> None:
    """For each clip the caption of the next one whose ball is of another material: what it is not.

    If all balls are of one material, the clip's own caption with another.
    """
    names, balls = list(clips), [bounces.ball for bounces in clips.values()]
    rows = []
    for index, (name, ball) in enumerate(zip(names, balls, strict=True)):
        changed = replace(ball, material=next(material for material in MATERIALS if material != ball.material))
        others = (other for other in balls[index + 1 :] + balls[:index] if other.material != ball.material)
        rows.append((name, next(others, changed).caption))
    write_text(path, format_table(("id", "label"), rows))
