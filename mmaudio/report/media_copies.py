"""The page's own copies of media: what a browser plays and shows, and pictures of the sounds."""

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

from mmaudio.media.audio import MediaError, write_wav
from mmaudio.media.containers import check_picture
from mmaudio.media.suffixes import HIDDEN_VIDEO_SUFFIXES
from mmaudio.media.video import read_sound
from mmaudio.report.content import PageClip, PageSound
from mmaudio.report.page_mark import MEDIA
from mmaudio.report.waveforms import Heard, draw_sounds, timeline_s

log = logging.getLogger(__name__)
# A jump to some places of a short .flac never ends in Chromium; no browser plays the others.
WRITTEN_ANEW = (".flac", *HIDDEN_VIDEO_SUFFIXES)


@dataclass(frozen=True)
class PlacedSound:
    """A sound as the page has it. Paths are as index.html names them; None where there is nothing to play or to see."""

    sound: PageSound
    media: str | None
    picture: str | None
    lack: str


@dataclass(frozen=True)
class PlacedSample:
    """A sample whose files are in the page's folder. `lacks`: a sentence for each thing that cannot be played or shown."""

    sample: PageClip
    index: int
    sounds: tuple[PlacedSound, ...]
    video: str | None
    duration_s: float
    lacks: tuple[str, ...]


class _Copies:
    """Copies files into the folder under names by place, each file of a sample once."""

    def __init__(self, folder: Path, index: int) -> None:
        self._folder, self._index = folder, index
        self._name_of: dict[Path, str] = {}

    def name(self, stem: str, suffix: str) -> str:
        """Where a file goes, as the page names it."""
        return f"{MEDIA}/{self._index:03d}_{stem}{suffix}"

    def add(self, file: Path, stem: str) -> str:
        """Copy a file. Raises: OSError."""
        key = file.resolve()
        if key not in self._name_of:
            name = self.name(stem, file.suffix.lower())
            shutil.copyfile(file, self._folder / name)
            self._name_of[key] = name
        return self._name_of[key]


def _read(sound: PageSound, duration_s: float | None) -> tuple[Heard | None, str]:
    """What is drawn of a sound, or why nothing is."""
    if sound.file is None:
        return None, sound.lack
    try:
        read = read_sound(sound.file)
    except MediaError as error:
        return None, f"the sound {sound.label!r} cannot be read: {error}"
    compared_s = len(read.wave) / read.rate_hz if duration_s is None else min(duration_s, len(read.wave) / read.rate_hz)
    return Heard(read.wave[: round(compared_s * read.rate_hz)], read.rate_hz, sound.onsets_s), ""


def _place_sound(folder: Path, copies: _Copies, place: int, sound: PageSound, heard: Heard | None) -> str | None:
    """The file to play: a copy, or what was compared, as .wav, of a file that browsers do not play well."""
    if sound.file is None or heard is None:
        return None
    if sound.file.suffix.lower() not in WRITTEN_ANEW:
        return copies.add(sound.file, str(place))
    name = copies.name(str(place), ".wav")
    write_wav(folder / name, heard.wave, heard.rate_hz)
    return name


def place_sample(folder: Path, index: int, sample: PageClip) -> PlacedSample:
    """Copy and draw what a sample needs. Files are named by place, so that any id will do.

    What is gone or cannot be read is told in `lacks` and stops nothing. Raises: OSError for a disk that is full.
    """
    copies, lacks = _Copies(folder, index), []
    heard = [_read(sound, sample.duration_s) for sound in sample.sounds]
    drawn = {place: sound for place, (sound, _) in enumerate(heard) if sound is not None}
    images = {place: copies.name(str(place), ".png") for place in drawn}
    draw_sounds([folder / name for name in images.values()], list(drawn.values()))
    sounds = []
    for place, (sound, (wave, lack)) in enumerate(zip(sample.sounds, heard, strict=True)):
        sounds.append(PlacedSound(sound, _place_sound(folder, copies, place, sound, wave), images.get(place), lack))
        lacks += [lack] if lack else []
    video, lack = _place_picture(copies, sample)
    lacks += [lack] if lack else []
    for lack in lacks:
        log.warning("sample %s: %s", sample.id, lack)
    return PlacedSample(sample, index, tuple(sounds), video, timeline_s(list(drawn.values())), tuple(lacks))


def _place_picture(copies: _Copies, sample: PageClip) -> tuple[str | None, str]:
    """The video to show, or why there is none."""
    if sample.picture is None:
        return None, sample.lack
    if sample.picture.suffix.lower() in HIDDEN_VIDEO_SUFFIXES:
        return None, f"the picture is {sample.picture.suffix.lower()}, which browsers do not show; only the sound is here"
    try:
        check_picture(sample.picture)  # whatever its name says: a page holds no other files
    except MediaError as error:
        return None, f"the picture cannot be read: {error}"
    return copies.add(sample.picture, "picture"), ""
