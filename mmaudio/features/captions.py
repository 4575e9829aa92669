"""Captions to the table of their text features, each distinct one once."""

from collections.abc import Iterable, Sequence

from mmaudio.base.logs import progress
from mmaudio.base.ranks import Ranks
from mmaudio.features.backend import Backend
from mmaudio.features.encoding import num_at_once
from mmaudio.features.ledger import MISSING, Progress
from mmaudio.features.recorder import Recorder
from mmaudio.features.rows import Job
from mmaudio.store.schema import TEXT_TABLE

CAPTIONS_AT_ONCE = 64  # on a GPU


def distinct(captions: Iterable[str], known: Iterable[str] = ()) -> list[str]:
    """Each caption that is not known yet once, in the order in which it first comes."""
    seen = dict.fromkeys(known)
    return [caption for caption in dict.fromkeys(captions) if caption not in seen]


def extract_captions(job: Job, captions: Sequence[str], done: Progress, backend: Backend, ranks: Ranks) -> None:
    """Encode the captions that are missing, every world_size-th batch of them here."""
    at_once = num_at_once(backend, CAPTIONS_AT_ONCE)
    missing = [number for number, state in enumerate(done.states) if state == MISSING]
    batches = [missing[start : start + at_once] for start in range(0, len(missing), at_once)][ranks.rank :: ranks.world_size]
    if not batches:
        return
    with job.work.open_captions(job.layout, len(captions)) as files, Recorder(files, job.work.captions) as recorder:
        for batch in progress(batches, len(batches), "extract captions", ranks.rank):
            for number, feature in zip(batch, backend.encode_text([captions[number] for number in batch]).cpu(), strict=True):
                recorder.keep(number, {TEXT_TABLE: feature})
