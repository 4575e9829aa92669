"""Inputs to rows, read ahead in threads; rows of a store made again."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice

import torch

from mmaudio.base.errors import RejectsError
from mmaudio.base.logs import progress
from mmaudio.distributed.ranks import Ranks
from mmaudio.extraction.inputs import Inputs, Stamp, file_stamp
from mmaudio.extraction.job import Job
from mmaudio.extraction.progress import MISSING, Progress
from mmaudio.extraction.reading import FileReader, Media, ReadingRules, encode_media, file_reader, num_at_once
from mmaudio.extraction.row_writer import RowWriter
from mmaudio.extraction.workspace import MOMENTS
from mmaudio.features.backend import Backend
from mmaudio.media.audio import MediaError
from mmaudio.media.prefetch import prefetch_files
from mmaudio.store.column_writer import NotFiniteError
from mmaudio.store.format import TEXT
from mmaudio.store.reader import Store
from mmaudio.store.row_check import Encoded
from mmaudio.store.statistics import row_moments

log = logging.getLogger(__name__)


# ---- Rows of a store, encoded again from the media and captions that their table names


def encode_rows(
    store: Store, rows: Sequence[int], inputs: Inputs, backend: Backend, rules: ReadingRules, num_workers: int = 1
) -> Iterator[Encoded]:
    """Each row in order, one encoded at a time while threads read ahead: media by the row's id, text by its caption.

    Args:
        inputs: where the media are; those that cannot be found or read are said to be unreadable, and nothing is raised.
        rules: how the store's media were read.
    """
    number_of = {item.id: number for number, item in enumerate(inputs.items)}
    reason_of = {reject.id: reject.reason for reject in inputs.rejects}
    read_file = file_reader(inputs, backend.spec, rules)

    def read(row: int) -> Media:
        number = number_of.get(store.ids[row])
        if number is None:
            raise MediaError(reason_of.get(store.ids[row], "no table lists this id"))
        (media,) = read_file([number])
        if isinstance(media, MediaError):
            raise media
        return media

    for row, media in prefetch_files(read, rows, num_workers):
        text = {TEXT: backend.encode_text([store.captions[row]])[0].cpu()}
        if isinstance(media, MediaError):
            yield Encoded(row, text, str(media))
        else:
            yield Encoded(row, encode_media(backend, [media])[0] | text)


# ---- Inputs to rows

NUM_TOLD = 20  # rejects that are told as they come; the table has them all
CLIPS_A_READING = 64  # of one file: more are read in several goes, so that memory does not grow with the file
Found = tuple[int, Media | MediaError, Stamp]  # the number of an input, what it holds or why it cannot be used, and its file's stamp


def share_of(inputs: Inputs, done: Progress, ranks: Ranks) -> list[list[int]]:
    """What this process has to do: numbers of missing inputs that one reading of a file serves, every world_size-th reading."""
    readings = []
    for numbers in inputs.files():
        missing = [number for number in numbers if done.states[number] == MISSING]
        readings += [missing[start : start + CLIPS_A_READING] for start in range(0, len(missing), CLIPS_A_READING)]
    return readings[ranks.rank :: ranks.world_size]


def extract_rows(job: Job, mine: list[list[int]], num_failed: int, backend: Backend, rank: int) -> None:
    """Do these inputs, of which those of a file stand together, or some of them if all processes are asked to stop.

    Args:
        num_failed: how many inputs failed before. Once more have failed than may, by the count of this process, all are asked.
    """
    read = _stamping(file_reader(job.inputs, backend.spec, job.rules, pinned=backend.device.type == "cuda"), job.inputs)
    found = progress(_each(prefetch_files(read, mine, job.num_workers)), sum(map(len, mine)), f"extract {job.inputs.kind}", rank)
    with closing(found), job.work.open_rows() as files, RowWriter(files, job.work.rows) as recorder:
        while (batch := list(islice(found, num_at_once(backend, job.batch_size)))) and not job.work.is_stopped:
            job.work.check_there()
            _encode_and_write(batch, job.inputs, backend, recorder)
            try:
                job.check_failures(num_failed + recorder.num_rejected)
            except RejectsError:
                job.work.stop()


def _stamping(read: FileReader, inputs: Inputs) -> Callable[[Sequence[int]], list[Found]]:
    """A function from the numbers of inputs that share a file to each of them; what is wrong with the file is wrong with all of them.

    The file is looked at before it is read: one that changes meanwhile is then another one than was read.
    """

    def found(numbers: Sequence[int]) -> list[Found]:
        stamp = file_stamp(inputs.path(inputs.items[numbers[0]]))
        try:
            held = read(numbers)
        except MediaError as error:
            held = [error] * len(numbers)
        return [(number, media, stamp) for number, media in zip(numbers, held, strict=True)]

    return found


def _each(readings: Iterable[tuple[Sequence[int], list[Found] | MediaError]]) -> Iterator[Found]:
    for _, found in readings:
        assert not isinstance(found, MediaError)  # it stands beside its number
        yield from found


def _encode_and_write(batch: list[Found], inputs: Inputs, backend: Backend, recorder: RowWriter) -> None:
    usable = [(number, media, stamp) for number, media, stamp in batch if not isinstance(media, MediaError)]
    for number, media, stamp in batch:
        if isinstance(media, MediaError):
            recorder.reject(number, "read", str(media), stamp)
            if recorder.num_rejected <= NUM_TOLD:
                log.warning("%s left out: %s", inputs.items[number].id, media)
    rows = encode_media(backend, [media for _, media, _ in usable]) if usable else []
    for (number, _, stamp), row in zip(usable, rows, strict=True):
        try:
            recorder.keep(number, {**row, MOMENTS: torch.from_numpy(row_moments(row["mean"][None])[0])}, stamp)
        except NotFiniteError as error:
            recorder.reject(number, "encode", str(error), stamp)
