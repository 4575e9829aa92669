"""Prompts, videos and images to files a person can play: `<name>.flac`, and the picture with its new sound as `<name>.mp4`."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mmaudio.base.logs import progress
from mmaudio.flow.methods import ADAPTIVE
from mmaudio.generate.encoding import CaptionFeatures, Ready, batches_of, encode_media
from mmaudio.generate.inputs import Inputs, read_inputs
from mmaudio.generate.jobs import Job
from mmaudio.generate.model import Model
from mmaudio.generate.sampler import ConditionBatch, SampleSettings, sample, sample_latents
from mmaudio.media.audio import MediaError, audio_header, write_flac
from mmaudio.media.reencoding import reencode_with_sound
from mmaudio.media.stills import read_still, write_still_video
from mmaudio.media.write import mux_sound

__all__ = ["Job", "Wishes", "generate_samples", "is_complete", "write_sounds"]

log = logging.getLogger(__name__)

ONLY_SOUND = "only its sound is made"  # how the reason begins where the video cannot take it


@dataclass(frozen=True)
class Wishes:
    """What holds for all samples of a call. `reencode`: encode the picture of an .mp4 anew instead of copying its packets."""

    output_dir: Path
    duration_s: float
    sampling: SampleSettings
    negative_prompt: str = ""
    mask_clip: bool = False
    with_video: bool = True
    batch_size: int = 16
    num_workers: int = 1
    reencode: bool = False

    def sound_of(self, job: Job) -> Path:
        return self.output_dir / f"{job.name}.flac"

    def video_of(self, job: Job) -> Path | None:
        """Where its picture with the new sound goes; None if it is to have none."""
        return self.output_dir / f"{job.name}.mp4" if self.with_video and job.source is not None else None


def is_complete(job: Job, wishes: Wishes) -> bool:
    """Whether everything that is to be made for a job is there, and its sound can be opened."""
    try:
        audio_header(wishes.sound_of(job))
    except MediaError:
        return False
    video = wishes.video_of(job)
    return video is None or video.is_file()


def generate_samples(model: Model, jobs: Sequence[Job], wishes: Wishes, *, inputs: Inputs | None = None, rank: int = 0) -> dict[str, str]:
    """Make every sample. Returns the names that failed, each with its reason.

    Args:
        inputs: the jobs with their media, where somebody has begun to read them.
        rank: who shows how far it is: 0 does.
    """
    failed: dict[str, str] = {}
    inputs = read_inputs(jobs, wishes.duration_s, wishes.num_workers) if inputs is None else inputs
    texts = CaptionFeatures(model.backend.encode_text)
    for batch in batches_of(progress(_encoded(model, inputs, wishes, failed), len(jobs), "generate", rank), wishes.batch_size):
        waves_bs = _sample(model, batch, wishes, texts)
        for item, wave in zip(batch, waves_bs, strict=True):
            if not bool(torch.isfinite(wave).all()):
                failed[item.job.name] = "the model made numbers that are not finite; its weights may be damaged"
                log.warning("%s: %s", item.job.name, failed[item.job.name])
                continue
            try:
                _write(model, item.job, item.duration_s, wave, wishes)
            except MediaError as error:
                failed[item.job.name] = f"{ONLY_SOUND}: {error}"
                log.warning("%s: %s", item.job.name, failed[item.job.name])
    return failed


def _encoded(model: Model, inputs: Inputs, wishes: Wishes, failed: dict[str, str]) -> Iterator[Ready]:
    for job, media in inputs:
        if isinstance(media, MediaError):
            log.warning("%s left out: %s", job.name, media)
            failed[job.name] = str(media)
        else:
            duration_s = wishes.duration_s if job.duration_s is None else job.duration_s
            yield encode_media(model, job, media, duration_s, mask_clip=wishes.mask_clip)


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
        seeds=[wishes.sampling.seed if job.seed is None else job.seed for job in jobs],
    )
    made = sample(model.network, conditions, wishes.sampling, model.dropped)
    if wishes.sampling.method == ADAPTIVE:
        counts = made.num_evaluations_b.tolist()
        log.info("adaptive: %d to %d evaluations of the velocity of a sample", min(counts), max(counts))
    return model.backend.decode(made.x_bnc).cpu()


def _negative_text(model: Model, jobs: list[Job], wishes: Wishes, texts: CaptionFeatures) -> Tensor | None:
    """Features (b, 77, width) of what is not to be heard, the null text where a job has nothing; None where no job has."""
    words = [wishes.negative_prompt if job.negative_prompt is None else job.negative_prompt for job in jobs]
    if not any(words):
        return None
    null = model.network.null_features("text")[0]
    return torch.stack([texts([word])[0] if word else null for word in words])


def write_sounds(model: Model, conditions: ConditionBatch, settings: SampleSettings, output_dir: Path) -> None:
    """Sample from features that are already there, and write `<id>.flac` for each row."""
    waves_bs = model.backend.decode(sample_latents(model.network, conditions, settings, model.dropped)).cpu()
    for name, wave in zip(conditions.ids, waves_bs, strict=True):
        write_flac(output_dir / f"{name}.flac", wave.numpy(), model.backend.spec.rate_hz)


def _write(model: Model, job: Job, duration_s: float, wave: Tensor, wishes: Wishes) -> None:
    rate_hz, video = model.backend.spec.rate_hz, wishes.video_of(job)
    write_flac(wishes.sound_of(job), wave.numpy(), rate_hz)
    if video is None:
        return
    if job.video is None:
        assert job.image is not None
        write_still_video(video, read_still(job.image), duration_s, wave.numpy(), rate_hz)
    elif wishes.reencode:
        reencode_with_sound(job.video, wave.numpy(), rate_hz, video)
    else:
        mux_sound(job.video, wave.numpy(), rate_hz, video)
