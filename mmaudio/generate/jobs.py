"""What a person asks to be made, one sample each. Nothing here is heavy: command lines are read with it."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Job:
    """One sample to make: the name of its files, its prompt, and its video or image if there is one.

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
