"""Prompts and videos to files a person can play: `<name>.flac`, and the video with its new sound as `<name>.mp4`."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mmaudio.base.logs import progress
from mmaudio.generate.model import Model
from mmaudio.generate.sampler import ConditionBatch, SampleSettings, sample_latents
from mmaudio.media.ahead import read_ahead
from mmaudio.media.audio import MediaError, write_flac
from mmaudio.media.video import SilentVideo, read_silent_video
from mmaudio.media.write import mux_sound

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One sample to make: the name of its files, its prompt, and its video if there is one."""

    name: str
    prompt: str
    video: Path | None = None


@dataclass(frozen=True)
class Wishes:
    """What holds for all samples of a call."""

    output_dir: Path
    duration_s: float
    sampling: SampleSettings
    negative_prompt: str = ""
    mask_clip: bool = False
    with_video: bool = True
    batch_size: int = 16
    num_workers: int = 1


@dataclass(frozen=True)
class _Ready:
    """A job whose video is encoded: features (tokens, width) or None, and the duration the video allows."""

    job: Job
    duration_s: float
    clip: Tensor | None = None
    sync: Tensor | None = None


def generate_samples(model: Model, jobs: Sequence[Job], wishes: Wishes) -> dict[str, str]:
    """Make every sample. Returns the names that failed, each with its reason."""
    failed: dict[str, str] = {}
    ready = progress(_encode(model, jobs, wishes, failed), len(jobs), "generate")
    for batch in _batches(ready, wishes.batch_size):
        waves_bs = _sample(model, batch, wishes)
        for item, wave in zip(batch, waves_bs, strict=True):
            try:
                _write(model, item.job, wave, wishes)
            except MediaError as error:  # the sound is written; the video cannot take it
                log.warning("%s: no video with sound: %s", item.job.name, error)
                failed[item.job.name] = str(error)
    return failed


def _encode(model: Model, jobs: Sequence[Job], wishes: Wishes, failed: dict[str, str]) -> Iterator[_Ready]:
    def read(job: Job) -> SilentVideo | None:
        return None if job.video is None else read_silent_video(job.video, wishes.duration_s)

    for job, media in read_ahead(read, jobs, wishes.num_workers):
        if isinstance(media, MediaError):
            log.warning("%s left out: %s", job.name, media)
            failed[job.name] = str(media)
        elif media is None:
            yield _Ready(job, wishes.duration_s)
        else:
            if media.duration_s < wishes.duration_s:
                log.warning(
                    "%s: the picture lasts %.2f s, so the sound does too, not %.2f s", job.name, media.duration_s, wishes.duration_s
                )
            clip = None if wishes.mask_clip else model.backend.encode_clip(media.clip_u8[None])[0]
            yield _Ready(job, media.duration_s, clip, model.backend.encode_sync(media.sync_u8[None])[0])


def _batches(ready: Iterator[_Ready], batch_size: int) -> Iterator[list[_Ready]]:
    """Successive jobs that share a duration and the streams they have, at most `batch_size` together."""
    batch: list[_Ready] = []
    for item in ready:
        if batch and (len(batch) == batch_size or _shape(item) != _shape(batch[0])):
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch


def _shape(item: _Ready) -> tuple[float, bool, bool]:
    return item.duration_s, item.clip is None, item.sync is None


def _sample(model: Model, batch: list[_Ready], wishes: Wishes) -> Tensor:
    model.set_duration(batch[0].duration_s)
    clips = [item.clip for item in batch if item.clip is not None]
    syncs = [item.sync for item in batch if item.sync is not None]
    conditions = ConditionBatch(
        ids=[item.job.name for item in batch],
        text=model.backend.encode_text([item.job.prompt for item in batch]),
        clip=torch.stack(clips) if clips else None,
        sync=torch.stack(syncs) if syncs else None,
        negative_text=model.backend.encode_text([wishes.negative_prompt]) if wishes.negative_prompt else None,
    )
    return model.backend.decode(sample_latents(model.network, conditions, wishes.sampling, model.dropped)).cpu()


def write_sounds(model: Model, conditions: ConditionBatch, settings: SampleSettings, output_dir: Path) -> None:
    """Sample from features that are already there, and write `<id>.flac` for each row."""
    waves_bs = model.backend.decode(sample_latents(model.network, conditions, settings, model.dropped)).cpu()
    for name, wave in zip(conditions.ids, waves_bs, strict=True):
        write_flac(output_dir / f"{name}.flac", wave.numpy(), model.backend.spec.rate_hz)


def _write(model: Model, job: Job, wave: Tensor, wishes: Wishes) -> None:
    rate_hz = model.backend.spec.rate_hz
    write_flac(wishes.output_dir / f"{job.name}.flac", wave.numpy(), rate_hz)
    if job.video is not None and wishes.with_video:
        mux_sound(job.video, wave.numpy(), rate_hz, wishes.output_dir / f"{job.name}.mp4")
