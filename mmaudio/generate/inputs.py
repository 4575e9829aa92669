"""The media of jobs, read ahead: a bounded number of them in memory, and nothing loaded for those that cannot be read."""

from collections.abc import Iterator, Sequence
from itertools import chain

from mmaudio.generate.jobs import Failure, Job
from mmaudio.media.ahead import read_ahead
from mmaudio.media.audio import MediaError
from mmaudio.media.stills import Still, read_still
from mmaudio.media.video import SilentVideo, read_silent_video

MOST_WORKERS = 8  # threads that read: a video of 8 s takes 60 MB until it is encoded, and there is one more than threads

Media = SilentVideo | Still | None  # of a video, of an image, or of a prompt alone
Inputs = Iterator[tuple[Job, Media | MediaError]]


def read_inputs(jobs: Sequence[Job], duration_s: float, num_workers: int = 1) -> Inputs:
    """Yield each job, in order, with its media, or with the MediaError that says why there is none.

    Args:
        duration_s: seconds to read of a video, where the job does not say.
    """

    def read(job: Job) -> Media:
        if job.video is not None:
            return read_silent_video(job.video, duration_s if job.duration_s is None else job.duration_s)
        return None if job.image is None else read_still(job.image)

    return read_ahead(read, jobs, min(num_workers, MOST_WORKERS))


def from_first_readable(inputs: Inputs) -> tuple[dict[str, Failure], Inputs | None]:
    """Read until there is something to sample from: the names that failed before it, with what failed, and the rest with it.

    None for the rest if nothing can be read, so that nobody loads a model for it.
    """
    failed: dict[str, Failure] = {}
    for job, media in inputs:
        if not isinstance(media, MediaError):
            return failed, chain([(job, media)], inputs)
        failed[job.name] = Failure(str(media))
    return failed, None
