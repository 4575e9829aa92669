"""Which samples of an earlier call may pass for those of this one: a mark inside each sound says what made it."""

import dataclasses
import json
import logging
from collections.abc import Sequence
from pathlib import Path

from mmaudio.base.files import text_hash
from mmaudio.base.ownership import foreign, move_aside
from mmaudio.generate.jobs import Job, Wishes
from mmaudio.media.audio import MediaError, audio_comment, read_audio
from mmaudio.media.mp4 import is_whole_mp4, mp4_comment
from mmaudio.media.sample_marks import is_foreign_sample, sample_mark

log = logging.getLogger(__name__)


def mark_of(job: Job, wishes: Wishes) -> str:
    """The comment inside the sound and the video of a job, with a hash of all that decides what is heard and seen.

    A file counts as another one where its length or its time of writing differs.
    """
    facts = {
        "made_by": wishes.made_by,
        "name": job.name,  # of which the starting noise is a function
        "prompt": job.prompt,
        "negative_prompt": wishes.negative_of(job),
        "duration_s": wishes.duration_of(job),
        "sampling": dataclasses.asdict(wishes.sampling) | {"seed": wishes.seed_of(job)},
        "mask_clip": wishes.mask_clip,
        "reencode": wishes.reencode,
        "is_video": job.video is not None,
        "source": None if job.source is None else _stamp(job.source),
    }
    return sample_mark(wishes.owner_of(job), id=job.name, hash=text_hash([json.dumps(facts, sort_keys=True)]))


def _stamp(path: Path) -> list[int] | None:
    try:
        status = path.stat()
    except OSError:  # whoever reads it says what is wrong
        return None
    return [status.st_size, status.st_mtime_ns]


def jobs_due(jobs: Sequence[Job], wishes: Wishes) -> list[Job]:
    """The jobs whose samples are not there whole, or were made by other weights or settings, or of another prompt or file."""
    due, num_others = list[Job](), 0
    for job in jobs:
        comment = _comment_of(job, wishes)
        if comment is None or comment != mark_of(job, wishes):
            due.append(job)
            num_others += comment is not None
    if num_others:
        log.info(
            "%d samples in %s were not made by these weights, settings, prompts and files, and are made anew", num_others, wishes.output_dir
        )
    return due


def _comment_of(job: Job, wishes: Wishes) -> str | None:
    """What the sound of a job says made it; None where it, or the video that is wanted with it, is not there whole."""
    sound, video = wishes.sound_of(job), wishes.video_of(job)
    try:
        comment = audio_comment(sound)
        read_audio(sound)  # all of it: a header alone may be of a file that was cut off
    except MediaError:
        return None
    if video is not None and not (is_whole_mp4(video) and video.stat().st_mtime_ns >= sound.stat().st_mtime_ns):
        return None  # a video older than the sound has another
    return None if video is not None and mp4_comment(video) != comment else comment


def make_way(path: Path, owner: str, *, replaces: bool) -> None:
    """See that nothing is lost where a sample is about to be written: what is not ours is moved aside where that is asked for.

    Raises: MediaError for a file that is not ours.
    """
    if is_foreign_sample(path, owner):
        if not replaces:
            raise MediaError(str(foreign(path)))
        move_aside(path)
