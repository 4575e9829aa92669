"""Inputs to rows of the columns under way: read ahead in threads, encoded, handed to the recorder."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch

from mmaudio.base.logs import progress
from mmaudio.base.ranks import Ranks
from mmaudio.features.backend import Backend
from mmaudio.features.encoding import encode_media, num_at_once
from mmaudio.features.failure_limit import FailureLimit
from mmaudio.features.inputs import Inputs
from mmaudio.features.ledger import MISSING, Progress
from mmaudio.features.reading import Media, ReadingRules, file_reader
from mmaudio.features.recorder import Recorder
from mmaudio.features.workspace import MOMENTS, Workspace
from mmaudio.media.ahead import read_ahead
from mmaudio.media.audio import MediaError
from mmaudio.store.column_files import NotFiniteError
from mmaudio.store.publish import Recipe
from mmaudio.store.schema import Layout
from mmaudio.store.statistics import row_moments

log = logging.getLogger(__name__)
NUM_TOLD = 20  # rejects that are told as they come; the table has them all
Found = tuple[int, Media | MediaError]  # the number of an input, and what it holds or why it cannot be used


@dataclass(frozen=True)
class Job:
    """One extraction: what goes in, how it is read and laid out, and where it is under way."""

    inputs: Inputs
    rules: ReadingRules
    recipe: Recipe
    work: Workspace
    batch_size: int  # clips encoded at once on a GPU
    num_workers: int  # threads that read files
    limit: FailureLimit

    @property
    def layout(self) -> Layout:
        return self.recipe.layout

    def check_failures(self, num_failed: int) -> None:
        """Raises: RejectsError if so many inputs that were listed with a file failed that it is to be given up."""
        self.limit.check(num_failed + len(self.inputs.rejects), self.inputs.num_seen)


def share_of(inputs: Inputs, done: Progress, ranks: Ranks) -> list[list[int]]:
    """What this process has to do: numbers of missing inputs, those of a file together, every world_size-th file."""
    files = ([number for number in numbers if done.states[number] == MISSING] for numbers in inputs.files())
    return [numbers for numbers in files if numbers][ranks.rank :: ranks.world_size]


def extract_rows(job: Job, mine: list[list[int]], num_failed: int, backend: Backend, rank: int) -> None:
    """Do these inputs, of which those of a file stand together.

    Args:
        num_failed: how many inputs failed before.
    Raises: RejectsError once more have failed than may, by the count of this process. What was done till then is kept.
    """
    read = file_reader(job.inputs, backend.spec, job.rules, pinned=backend.device.type == "cuda")
    found = progress(_each(read_ahead(read, mine, job.num_workers)), sum(map(len, mine)), f"extract {job.inputs.kind}", rank)
    with job.work.open_rows(job.layout) as files, Recorder(files, job.work.rows) as recorder:
        while batch := list(islice(found, num_at_once(backend, job.batch_size))):
            _do(batch, job.inputs, backend, recorder)
            job.check_failures(num_failed + recorder.num_rejected)


def _each(files: Iterable[tuple[Sequence[int], list[Media | MediaError] | MediaError]]) -> Iterator[Found]:
    """Each input by itself; what is wrong with a file is wrong with all that it was to hold."""
    for numbers, held in files:
        yield from zip(numbers, [held] * len(numbers) if isinstance(held, MediaError) else held, strict=True)


def _do(batch: list[Found], inputs: Inputs, backend: Backend, recorder: Recorder) -> None:
    usable = [(number, media) for number, media in batch if not isinstance(media, MediaError)]
    for number, media in batch:
        if isinstance(media, MediaError):
            recorder.reject(number, "read", str(media))
            if recorder.num_rejected <= NUM_TOLD:
                log.warning("%s left out: %s", inputs.items[number].id, media)
    rows = encode_media(backend, [media for _, media in usable]) if usable else []
    for (number, _), row in zip(usable, rows, strict=True):
        try:
            recorder.keep(number, {**row, MOMENTS: torch.from_numpy(row_moments(row["mean"][None])[0])})
        except NotFiniteError as error:
            recorder.reject(number, "encode", str(error))
