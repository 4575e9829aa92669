"""Captions to the table of their text features, each distinct one once."""

from collections.abc import Sequence

from mmaudio.base.errors import UserError
from mmaudio.base.logs import progress
from mmaudio.base.ranks import Ranks
from mmaudio.features.backend import Backend
from mmaudio.features.base_store import BaseStore
from mmaudio.features.encoding import num_at_once
from mmaudio.features.job import Job
from mmaudio.features.ledger import MISSING, Entered
from mmaudio.features.recorder import Recorder
from mmaudio.store.column_files import NotFiniteError
from mmaudio.store.schema import TEXT_TABLE

CAPTIONS_AT_ONCE = 64  # on a GPU


def texts_needed(captions: Sequence[str], layout_name: str, base: BaseStore | None) -> list[str]:
    """The captions to encode, each once, in order: for a compact store those that its table does not have."""
    known = set(base.captions) if base is not None and layout_name == "compact" else set()
    return [caption for caption in dict.fromkeys(captions) if caption not in known]


def extract_captions(job: Job, captions: Sequence[str], done: Entered, backend: Backend, ranks: Ranks) -> None:
    """Encode the captions that are missing, every world_size-th batch of them here.

    Raises: UserError for a caption whose feature is not finite in the dtype it is to be stored in.
    """
    at_once = num_at_once(backend, CAPTIONS_AT_ONCE)
    missing = [number for number, state in enumerate(done.states) if state == MISSING]
    batches = [missing[start : start + at_once] for start in range(0, len(missing), at_once)][ranks.rank :: ranks.world_size]
    if not batches:
        return
    with job.work.open_captions(len(captions)) as files, Recorder(files, job.work.captions) as recorder:
        for batch in progress(batches, len(batches), "extract captions", ranks.rank):
            for number, feature in zip(batch, backend.encode_text([captions[number] for number in batch]).cpu(), strict=True):
                try:
                    recorder.keep(number, {TEXT_TABLE: feature})
                except NotFiniteError as error:
                    advice = "another --column_dtype of text may hold it"
                    raise UserError(f"the text feature of caption {captions[number]!r}: {error}; {advice}") from None
