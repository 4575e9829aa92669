"""What a person asks to be made, one sample each, and what failed. Nothing here is heavy: command lines are read with it."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mmaudio.files.file_names import file_of, ids_by_file

if TYPE_CHECKING:
    from mmaudio.generate.sampler import SampleSettings


@dataclass(frozen=True)
class GenerationJob:
    """One sample to make: the id that names its files, its prompt, and its video or image if there is one.

    None for what else it may have of its own leaves that to the wishes that hold for all samples.
    """

    name: str
    prompt: str
    video: Path | None = None
    image: Path | None = None
    negative_prompt: str | None = None
    duration_s: float | None = None
    seed: int | None = None

    @property
    def source(self) -> Path | None:
        """The file it is made from, if there is one."""
        return self.video if self.video is not None else self.image


@dataclass(frozen=True)
class GenerationOptions:
    """What holds for all samples of a call.

    `reencode`: encode the picture of an .mp4 anew instead of copying its packets. `made_by`: what says which weights, backend and
    arithmetic make the samples, so that the mark of each can say what made it. `of_set`: the set that they belong to; None: each to its
    own name. `replaces`: move files that this program did not make aside; otherwise the sample in whose place they stand fails.
    """

    output_dir: Path
    duration_s: float
    sampling: "SampleSettings"
    negative_prompt: str = ""
    mask_clip: bool = False
    with_video: bool = True
    batch_size: int = 16
    num_workers: int = 1
    reencode: bool = False
    made_by: str | None = None
    of_set: str | None = None
    replaces: bool = False

    def owner_of(self, job: GenerationJob) -> str:
        """What the mark of its sample says that it belongs to."""
        return job.name if self.of_set is None else self.of_set

    def sound_of(self, job: GenerationJob) -> Path:
        """Where its sound goes."""
        return file_of(self.output_dir, job.name, ".flac")

    def video_of(self, job: GenerationJob) -> Path | None:
        """Where its picture with the new sound goes; None if it is to have none."""
        return file_of(self.output_dir, job.name, ".mp4") if self.with_video and job.source is not None else None

    def files_of(self, jobs: Iterable[GenerationJob]) -> dict[str, str]:
        """The name of every file that these jobs may give, relative to the folder → the job's name."""
        jobs = list(jobs)
        seen = [job.name for job in jobs if self.video_of(job) is not None]
        return ids_by_file((job.name for job in jobs), ".flac") | ids_by_file(seen, ".mp4")

    def duration_of(self, job: GenerationJob) -> float:
        """Seconds of sound, unless its video is shorter."""
        return self.duration_s if job.duration_s is None else job.duration_s

    def negative_of(self, job: GenerationJob) -> str:
        """What is not to be heard."""
        return self.negative_prompt if job.negative_prompt is None else job.negative_prompt

    def seed_of(self, job: GenerationJob) -> int:
        """The seed of its starting noise."""
        return self.sampling.seed if job.seed is None else job.seed


@dataclass(frozen=True)
class SampleFailure:
    """Why a sample was not made, or with `has_sound`, why its sound is there without its video."""

    reason: str
    has_sound: bool = False
