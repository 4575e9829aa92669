"""Example media made by code.

What is seen says when (and how hard) and how large; only the caption says what the ball is made of. So a model has to
use both: the picture for the moment, the words for the sound.
"""

import json
import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmaudio.base.logs import progress
from mmaudio.files.atomic import atomic_folder, parse_json, text_hash, write_text
from mmaudio.files.owned_files import check_made, write_record
from mmaudio.files.tables import format_table
from mmaudio.media.audio import write_flac, write_wav
from mmaudio.media.mp4 import write_video

log = logging.getLogger(__name__)
SIDE_PX = 128
FPS = 25
FLOOR_PX = 112  # row of the floor
BACKGROUND = (196, 202, 208)
FLOOR_COLOUR = (120, 112, 104)
SQUASH_S = 0.05  # a ball is flat for this long around an impact
FALL_PX_PER_S2 = 540.0
FIRST_IMPACT_S = (0.15, 0.85)
FLIGHT_S = (0.5, 1.1)
COLOURS = {"red": (206, 48, 40), "blue": (36, 72, 190), "green": (36, 140, 62), "white": (246, 246, 240), "black": (30, 30, 34)}
SIZES = {"small": (9.0, 1.35), "large": (15.0, 0.8)}  # radius in pixels, factor on the pitch


@dataclass(frozen=True)
class Material:
    """Partials of an impact: ratios to the pitch, their levels, how long they ring, and how much of it is noise."""

    pitch_hz: float
    ratios: tuple[float, ...]
    levels: tuple[float, ...]
    decay_s: float
    noise: float
    noise_band_hz: tuple[float, float]


MATERIALS = {
    "rubber": Material(95.0, (1.0, 1.9, 2.8), (1.0, 0.4, 0.15), 0.050, 0.05, (60.0, 400.0)),
    "wooden": Material(520.0, (1.0, 2.6, 4.7), (1.0, 0.5, 0.25), 0.040, 0.10, (400.0, 3000.0)),
    "metal": Material(1150.0, (1.0, 1.51, 1.98, 2.43, 2.9, 3.37, 4.6), (1.0, 0.7, 0.4, 0.6, 0.3, 0.4, 0.25), 0.160, 0.15, (900.0, 7000.0)),
    "paper": Material(300.0, (1.0,), (0.05,), 0.020, 1.0, (1500.0, 7500.0)),
}


@dataclass(frozen=True)
class Ball:
    """One object of the example world."""

    colour: str
    size: str
    material: str

    @property
    def caption(self) -> str:
        return f"a {self.size} {self.colour} {self.material} ball bouncing"


@dataclass(frozen=True)
class Bounces:
    """A ball and when it touches the floor; `flights_s` are the gaps before each impact, which set how hard it is."""

    ball: Ball
    impacts_s: tuple[float, ...]
    flights_s: tuple[float, ...]
    duration_s: float
    start_px: float
    drift_px_per_s: float

    def strength(self, index: int) -> float:
        """Loudness of an impact, 0.35 to 1: a longer fall is a harder landing."""
        return float(0.35 + 0.65 * min(self.flights_s[index] / FLIGHT_S[1], 1.0))


def _generator(seed: int, stream: str, index: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=[seed, index * 1024 + sum(stream.encode())]))


def draw_bounces(seed: int, stream: str, index: int, duration_s: float) -> Bounces:
    """The ball and the impacts of clip `index` of a stream (a split's name): a function of the arguments alone."""
    draw = _generator(seed, stream, index)
    ball = Ball(*(str(draw.choice(sorted(kind))) for kind in (COLOURS, SIZES, MATERIALS)))
    impacts, flights = [draw.uniform(*FIRST_IMPACT_S)], [draw.uniform(*FLIGHT_S)]
    while impacts[-1] < duration_s:
        flights.append(draw.uniform(*FLIGHT_S))
        impacts.append(impacts[-1] + flights[-1])
    start, drift = draw.uniform(24, SIDE_PX - 24), draw.uniform(-12, 12)
    return Bounces(ball, tuple(impacts), tuple(flights), duration_s, start, drift * min(1.0, 2.5 / duration_s))


def _height(bounces: Bounces, time_s: float) -> float:
    """Pixels between the ball's underside and the floor: a parabola between impacts."""
    after = int(np.searchsorted(bounces.impacts_s, time_s))
    after = min(after, len(bounces.impacts_s) - 1)
    flight = bounces.flights_s[after]
    since = flight - (bounces.impacts_s[after] - time_s)
    return max(0.0, 0.5 * FALL_PX_PER_S2 * since * (flight - since))


def render_frame(bounces: Bounces, time_s: float) -> NDArray[np.uint8]:
    """The picture at a time: (128, 128, 3) uint8 RGB, with soft edges."""
    radius = SIZES[bounces.ball.size][0]
    nearest_s = min(abs(time_s - impact) for impact in bounces.impacts_s)
    squash = 0.45 * max(0.0, 1.0 - nearest_s / SQUASH_S)
    tall, wide = radius * (1.0 - squash), radius * (1.0 + squash)
    x = bounces.start_px + bounces.drift_px_per_s * time_s
    y = FLOOR_PX - tall - _height(bounces, time_s)
    places = np.arange(SIDE_PX) + 0.5
    distance = np.hypot((places[None, :] - x) / wide, (places[:, None] - y) / tall)
    cover = np.clip((1.0 - distance) * min(tall, wide) + 0.5, 0.0, 1.0)[..., None]
    is_floor = (places >= FLOOR_PX)[:, None, None]
    ground = np.where(is_floor, np.array(FLOOR_COLOUR, dtype=np.float64), np.array(BACKGROUND, dtype=np.float64))
    return (ground + cover * (np.array(COLOURS[bounces.ball.colour]) - ground) + 0.5).astype(np.uint8)


def render_impact(ball: Ball, strength: float, rate_hz: int) -> NDArray[np.float64]:
    """One impact's sound: decaying partials and a burst of band-limited noise, the same noise every time."""
    material, pitch_factor = MATERIALS[ball.material], SIZES[ball.size][1]
    time = np.arange(int(8 * material.decay_s * rate_hz)) / rate_hz
    sound = np.zeros_like(time)
    for ratio, level in zip(material.ratios, material.levels, strict=True):
        frequency = material.pitch_hz * pitch_factor * ratio
        sound += level * np.sin(2 * np.pi * frequency * time) * np.exp(-time * ratio**0.5 / material.decay_s)
    spectrum = np.fft.rfft(_generator(7, ball.material, 0).standard_normal(len(time)))
    hertz = np.fft.rfftfreq(len(time), 1 / rate_hz)
    low, high = material.noise_band_hz
    burst = np.fft.irfft(spectrum * ((hertz >= low) & (hertz <= high)), len(time)) * np.exp(-time / material.decay_s)
    sound += material.noise * burst / np.abs(burst).max()
    attack = np.minimum(1.0, time / 0.001)
    return strength * attack * sound / np.abs(sound).max()


def render_sound(bounces: Bounces, rate_hz: int) -> NDArray[np.float32]:
    """The sound track: (samples,) float32, below full scale even where impacts overlap."""
    total = round(bounces.duration_s * rate_hz)
    track = np.zeros(total + rate_hz * 4)
    for index, impact_s in enumerate(bounces.impacts_s):
        at = round(impact_s * rate_hz)
        if at < total:
            impact = render_impact(bounces.ball, bounces.strength(index), rate_hz)
            track[at : at + len(impact)] += impact
    return (0.6 * track[:total]).astype(np.float32)


def render_frames(bounces: Bounces) -> NDArray[np.uint8]:
    """All frames at 25 fps: (frames, 128, 128, 3) uint8 RGB."""
    count = round(bounces.duration_s * FPS)
    return np.stack([render_frame(bounces, index / FPS) for index in range(count)])


def clip_facts(bounces: Bounces) -> dict[str, Any]:
    """What happens in a clip, for the record beside the media."""
    heard = [round(t, 4) for t in bounces.impacts_s if t < bounces.duration_s]
    return {"caption": bounces.ball.caption, "impacts_s": heard}


# ---- Example media as files: the training guide's two videos and two recordings, and a learning set with held-out clips

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
            told[split] = {name: clip_facts(bounces) for name, bounces in clips.items()}
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
        return parse_json(record.read_text(encoding="utf-8"))["made_with"]
    except (OSError, ValueError, LookupError, TypeError):
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
