"""The media of jobs, read ahead and encoded, batched by shape; nothing is loaded for those that cannot be read."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mmaudio.base.specs import AudioSpec
from mmaudio.generate.jobs import GenerationJob, SampleFailure
from mmaudio.media.audio import MediaError
from mmaudio.media.images import Still, read_still
from mmaudio.media.prefetch import prefetch_files
from mmaudio.media.video import SilentVideo, read_silent_video

if TYPE_CHECKING:
    from mmaudio.generate.model import Model

log = logging.getLogger(__name__)


MOST_WORKERS = 8  # threads that read: a video of 8 s takes 60 MB until it is encoded, and there is one more than threads
Media = SilentVideo | Still | None  # of a video, of an image, or of a prompt alone
Inputs = Iterator[tuple[GenerationJob, Media | MediaError]]


def read_inputs(jobs: Sequence[GenerationJob], duration_s: float, num_workers: int = 1) -> Inputs:
    """Yield each job, in order, with its media, or with the MediaError that says why there is none.

    Args:
        duration_s: seconds to read of a video, where the job does not say.
    """

    def read(job: GenerationJob) -> Media:
        if job.video is not None:
            return read_silent_video(job.video, duration_s if job.duration_s is None else job.duration_s)
        return None if job.image is None else read_still(job.image)

    return prefetch_files(read, jobs, min(num_workers, MOST_WORKERS))


def from_first_readable(inputs: Inputs) -> tuple[dict[str, SampleFailure], Inputs | None]:
    """Read until there is something to sample from: the names that failed before it, with what failed, and the rest with it.

    None for the rest if nothing can be read, so that nobody loads a model for it.
    """
    failed: dict[str, SampleFailure] = {}
    for job, media in inputs:
        if not isinstance(media, MediaError):
            return failed, chain([(job, media)], inputs)
        failed[job.name] = SampleFailure(str(media))
    return failed, None


MOST_CAPTIONS = 256  # kept at once; features of one take 0.3 MB
MOST_BATCHES_WAITING = 4  # of samples that wait for others of their shape; one takes about 1 MB


@dataclass(frozen=True)
class Ready:
    """A job whose media are encoded: features (tokens, width) or None, and the seconds the media allow."""

    job: GenerationJob
    duration_s: float
    clip: Tensor | None = None
    sync: Tensor | None = None

    @property
    def shape(self) -> tuple[float, bool, bool]:
        """What samples of one batch share."""
        return self.duration_s, self.clip is None, self.sync is None


def encode_job(model: "Model", job: GenerationJob, media: Media, duration_s: float, *, mask_clip: bool = False) -> Ready:
    """Features of a job's media. An image is a scene that stays; it has no synchronisation (data.md section 6.4)."""
    if media is None:
        return Ready(job, duration_s)
    clip = None if mask_clip else model.backend.encode_clip(media.clip_u8[None])[0]
    if isinstance(media, SilentVideo):
        if media.duration_s < duration_s:
            log.warning("%s: the picture lasts %.2f s, so the sound does too, not %.2f s", job.name, media.duration_s, duration_s)
        return Ready(job, media.duration_s, clip, model.backend.encode_sync(media.sync_u8[None])[0])
    num_frames = AudioSpec(model.backend.spec.mode, duration_s).num_clip_frames
    return Ready(job, duration_s, None if clip is None else clip.expand(num_frames, -1))


def batches_of(ready: Iterable[Ready], batch_size: int) -> Iterator[list[Ready]]:
    """Samples of one shape together, at most `batch_size`; a batch that is full goes first."""
    waiting: dict[tuple[float, bool, bool], list[Ready]] = {}
    for item in ready:
        batch = waiting.setdefault(item.shape, [])
        batch.append(item)
        if len(batch) == batch_size:
            yield waiting.pop(item.shape)
        elif sum(map(len, waiting.values())) >= MOST_BATCHES_WAITING * batch_size:
            yield waiting.pop(max(waiting, key=lambda shape: len(waiting[shape])))
    yield from waiting.values()


class CaptionFeatures:
    """Features of captions, (b, 77, width), each encoded once as long as there are not too many."""

    def __init__(self, encode: Callable[[list[str]], Tensor]) -> None:
        self._encode = encode
        self._known: dict[str, Tensor] = {}

    def __call__(self, captions: list[str]) -> Tensor:
        new = [caption for caption in dict.fromkeys(captions) if caption not in self._known]
        if len(self._known) + len(new) > MOST_CAPTIONS:
            self._known, new = {}, list(dict.fromkeys(captions))
        if new:
            self._known.update(zip(new, self._encode(new), strict=True))
        return torch.stack([self._known[caption] for caption in captions])
