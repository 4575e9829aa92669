"""Sounds made and written; which of an earlier call are kept."""

import dataclasses
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from mmaudio.base.logs import progress
from mmaudio.files.atomic import text_hash
from mmaudio.files.ownership import foreign, move_aside
from mmaudio.flow import ADAPTIVE
from mmaudio.generate.conditioning import CaptionFeatures, Inputs, Ready, batches_of, encode_job, read_inputs
from mmaudio.generate.jobs import GenerationJob, GenerationOptions, SampleFailure
from mmaudio.generate.model import Model
from mmaudio.generate.sampler import ConditionBatch, sample
from mmaudio.media.audio import MediaError, audio_comment, read_audio, write_flac
from mmaudio.media.images import read_still, write_still_video
from mmaudio.media.mp4 import is_whole_mp4, mp4_comment, mux_sound
from mmaudio.media.reencoding import reencode_with_sound
from mmaudio.media.sample_marks import is_foreign_sample, sample_mark

log = logging.getLogger(__name__)


# ---- Which samples of an earlier call are kept: a mark inside each says what made it


def job_mark(job: GenerationJob, wishes: GenerationOptions) -> str:
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


def jobs_missing(jobs: Sequence[GenerationJob], wishes: GenerationOptions) -> list[GenerationJob]:
    """The jobs whose samples are not there whole, or were made by other weights or settings, or of another prompt or file."""
    due, num_others = list[GenerationJob](), 0
    for job in jobs:
        comment = _comment_of(job, wishes)
        if comment is None or comment != job_mark(job, wishes):
            due.append(job)
            num_others += comment is not None
    if num_others:
        log.info(
            "%d samples in %s were not made by these weights, settings, prompts and files, and are made anew", num_others, wishes.output_dir
        )
    return due


def _comment_of(job: GenerationJob, wishes: GenerationOptions) -> str | None:
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


# ---- Samples, made and written


def make_way(path: Path, owner: str, *, replaces: bool) -> None:
    """See that nothing is lost where a sample is about to be written: what is not ours is moved aside where that is asked for.

    Raises: MediaError for a file that is not ours.
    """
    if is_foreign_sample(path, owner):
        if not replaces:
            raise MediaError(str(foreign(path)))
        move_aside(path)


def generate_samples(
    model: Model, jobs: Sequence[GenerationJob], wishes: GenerationOptions, *, inputs: Inputs | None = None, rank: int = 0
) -> dict[str, SampleFailure]:
    """Make every sample. Returns the names that failed, each with what failed.

    Args:
        inputs: the jobs with their media, where somebody has begun to read them.
        rank: who shows how far it is: 0 does.
    """
    failed: dict[str, SampleFailure] = {}
    inputs = read_inputs(jobs, wishes.duration_s, wishes.num_workers) if inputs is None else inputs
    texts = CaptionFeatures(model.backend.encode_text)
    for batch in batches_of(progress(_encoded(model, inputs, wishes, failed), len(jobs), "generate", rank), wishes.batch_size):
        waves_bs = _sample(model, batch, wishes, texts)
        for item, wave in zip(batch, waves_bs, strict=True):
            if not bool(torch.isfinite(wave).all()):
                failed[item.job.name] = SampleFailure("the model made numbers that are not finite; its weights may be damaged")
                log.warning("%s: %s", item.job.name, failed[item.job.name].reason)
                continue
            failure = _write(model, item.job, item.duration_s, wave, wishes)
            if failure is not None:
                failed[item.job.name] = failure
                log.warning("%s: %s%s", item.job.name, "only its sound is made: " * failure.has_sound, failure.reason)
    return failed


def _encoded(model: Model, inputs: Inputs, wishes: GenerationOptions, failed: dict[str, SampleFailure]) -> Iterator[Ready]:
    for job, media in inputs:
        if isinstance(media, MediaError):
            log.warning("%s left out: %s", job.name, media)
            failed[job.name] = SampleFailure(str(media))
        else:
            yield encode_job(model, job, media, wishes.duration_of(job), mask_clip=wishes.mask_clip)


def _sample(model: Model, batch: list[Ready], wishes: GenerationOptions, texts: CaptionFeatures) -> Tensor:
    """Waves (b, samples) of a batch of one shape, on the CPU."""
    model.set_duration(batch[0].duration_s)
    clips = [item.clip for item in batch if item.clip is not None]
    syncs = [item.sync for item in batch if item.sync is not None]
    jobs = [item.job for item in batch]
    conditions = ConditionBatch(
        ids=[job.name for job in jobs],
        text=texts([job.prompt for job in jobs]),
        clip=torch.stack(clips) if clips else None,
        sync=torch.stack(syncs) if syncs else None,
        negative_text=_negative_text(model, jobs, wishes, texts),
        seeds=[wishes.seed_of(job) for job in jobs],
    )
    made = sample(model.network, conditions, wishes.sampling, model.dropped)
    if wishes.sampling.method == ADAPTIVE:
        counts = made.num_evaluations_b.tolist()
        log.info("adaptive: %d to %d evaluations of the velocity of a sample", min(counts), max(counts))
    return model.backend.decode(made.x_bnc).cpu()


def _negative_text(model: Model, jobs: list[GenerationJob], wishes: GenerationOptions, texts: CaptionFeatures) -> Tensor | None:
    """Features (b, 77, width) of what is not to be heard, the null text where a job has nothing; None where no job has."""
    words = [wishes.negative_of(job) for job in jobs]
    if not any(words):
        return None
    null = model.network.null_features("text")[0]
    return torch.stack([texts([word])[0] if word else null for word in words])


def _write(model: Model, job: GenerationJob, duration_s: float, wave: Tensor, wishes: GenerationOptions) -> SampleFailure | None:
    """Write the files of a sample. Returns: why one of them is not there."""
    rate_hz, sound, video, mark = model.backend.spec.rate_hz, wishes.sound_of(job), wishes.video_of(job), job_mark(job, wishes)
    has_sound = False
    try:
        make_way(sound, wishes.owner_of(job), replaces=wishes.replaces)
        write_flac(sound, wave.numpy(), rate_hz, mark)
        has_sound = True
        if video is not None:
            make_way(video, wishes.owner_of(job), replaces=wishes.replaces)
            _write_video(job, duration_s, wave, rate_hz, video, mark, reencode=wishes.reencode)
    except MediaError as error:
        return SampleFailure(str(error), has_sound)
    return None


def _write_video(job: GenerationJob, duration_s: float, wave: Tensor, rate_hz: int, video: Path, mark: str, *, reencode: bool) -> None:
    if job.video is None:
        assert job.image is not None
        write_still_video(video, read_still(job.image), duration_s, wave.numpy(), rate_hz, mark)
    elif reencode:
        reencode_with_sound(job.video, wave.numpy(), rate_hz, video, mark)
    else:
        mux_sound(job.video, wave.numpy(), rate_hz, video, mark)
