"""Prompts, videos and images to files a person can play: `<name>.flac`, and the picture with its new sound as `<name>.mp4`."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from mmaudio.base.logs import progress
from mmaudio.flow.methods import ADAPTIVE
from mmaudio.generate.encoding import CaptionFeatures, Ready, batches_of, encode_media
from mmaudio.generate.inputs import Inputs, read_inputs
from mmaudio.generate.jobs import Failure, Job, Wishes
from mmaudio.generate.kept import make_way, mark_of
from mmaudio.generate.model import Model
from mmaudio.generate.sampler import ConditionBatch, sample
from mmaudio.media.audio import MediaError, write_flac
from mmaudio.media.reencoding import reencode_with_sound
from mmaudio.media.stills import read_still, write_still_video
from mmaudio.media.write import mux_sound

__all__ = ["Failure", "Job", "Wishes", "generate_samples"]

log = logging.getLogger(__name__)


def generate_samples(
    model: Model, jobs: Sequence[Job], wishes: Wishes, *, inputs: Inputs | None = None, rank: int = 0
) -> dict[str, Failure]:
    """Make every sample. Returns the names that failed, each with what failed.

    Args:
        inputs: the jobs with their media, where somebody has begun to read them.
        rank: who shows how far it is: 0 does.
    """
    failed: dict[str, Failure] = {}
    inputs = read_inputs(jobs, wishes.duration_s, wishes.num_workers) if inputs is None else inputs
    texts = CaptionFeatures(model.backend.encode_text)
    for batch in batches_of(progress(_encoded(model, inputs, wishes, failed), len(jobs), "generate", rank), wishes.batch_size):
        waves_bs = _sample(model, batch, wishes, texts)
        for item, wave in zip(batch, waves_bs, strict=True):
            if not bool(torch.isfinite(wave).all()):
                failed[item.job.name] = Failure("the model made numbers that are not finite; its weights may be damaged")
                log.warning("%s: %s", item.job.name, failed[item.job.name].reason)
                continue
            failure = _write(model, item.job, item.duration_s, wave, wishes)
            if failure is not None:
                failed[item.job.name] = failure
                log.warning("%s: %s%s", item.job.name, "only its sound is made: " * failure.has_sound, failure.reason)
    return failed


def _encoded(model: Model, inputs: Inputs, wishes: Wishes, failed: dict[str, Failure]) -> Iterator[Ready]:
    for job, media in inputs:
        if isinstance(media, MediaError):
            log.warning("%s left out: %s", job.name, media)
            failed[job.name] = Failure(str(media))
        else:
            yield encode_media(model, job, media, wishes.duration_of(job), mask_clip=wishes.mask_clip)


def _sample(model: Model, batch: list[Ready], wishes: Wishes, texts: CaptionFeatures) -> Tensor:
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


def _negative_text(model: Model, jobs: list[Job], wishes: Wishes, texts: CaptionFeatures) -> Tensor | None:
    """Features (b, 77, width) of what is not to be heard, the null text where a job has nothing; None where no job has."""
    words = [wishes.negative_of(job) for job in jobs]
    if not any(words):
        return None
    null = model.network.null_features("text")[0]
    return torch.stack([texts([word])[0] if word else null for word in words])


def _write(model: Model, job: Job, duration_s: float, wave: Tensor, wishes: Wishes) -> Failure | None:
    """Write the files of a sample. Returns: why one of them is not there."""
    rate_hz, sound, video, mark = model.backend.spec.rate_hz, wishes.sound_of(job), wishes.video_of(job), mark_of(job, wishes)
    has_sound = False
    try:
        make_way(sound, wishes.owner_of(job), replaces=wishes.replaces)
        write_flac(sound, wave.numpy(), rate_hz, mark)
        has_sound = True
        if video is not None:
            make_way(video, wishes.owner_of(job), replaces=wishes.replaces)
            _write_video(job, duration_s, wave, rate_hz, video, mark, reencode=wishes.reencode)
    except MediaError as error:
        return Failure(str(error), has_sound)
    return None


def _write_video(job: Job, duration_s: float, wave: Tensor, rate_hz: int, video: Path, mark: str, *, reencode: bool) -> None:
    if job.video is None:
        assert job.image is not None
        write_still_video(video, read_still(job.image), duration_s, wave.numpy(), rate_hz, mark)
    elif reencode:
        reencode_with_sound(job.video, wave.numpy(), rate_hz, video, mark)
    else:
        mux_sound(job.video, wave.numpy(), rate_hz, video, mark)
