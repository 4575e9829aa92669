"""Inputs to a store of features, by any number of processes on any number of machines; the same store however often it was killed.

take the folder and reserve the disk → rows → captions of the rows that stand → store
"""

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np

from mmaudio.base.errors import RejectsError
from mmaudio.base.ranks import Ranks, first_does, share_from_first, wait_for_all
from mmaudio.clips.rejects import Reject, read_rejects, write_rejects
from mmaudio.features.backend import Backend
from mmaudio.features.base_store import BaseStore
from mmaudio.features.captions import extract_captions
from mmaudio.features.finish import Rows, finish, texts_needed
from mmaudio.features.ledger import Progress
from mmaudio.features.rows import Job, extract_rows, share_of
from mmaudio.features.target import Target
from mmaudio.features.workspace import CLOSING, DONE
from mmaudio.store.reader import read_record
from mmaudio.store.schema import StoreRecord

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """How an extraction ended: inputs it was about, what of them was not used, and the record of the store."""

    num_seen: int
    rejects: list[Reject]
    record: StoreRecord

    @property
    def num_kept(self) -> int:
        return self.num_seen - len(self.rejects)


def extract(
    job: Job, target: Target, base: BaseStore | None, backend: Backend, ranks: Ranks, *, retry_failed: bool = False
) -> Outcome | None:
    """Collective. Do what is missing, and on rank 0 make the store. Returns how it ended there, None on other ranks.

    Args:
        base: the store that rows are added to, if it is not to be a new one.
        retry_failed: try inputs again that were rejected when this extraction was started before.
    Raises: UserError where another run is at work, or the disk is full; RejectsError where too many inputs failed. All that
        was done is kept in either case.
    """
    with _alone(job, base, ranks):
        if first_does(lambda: job.work.stage) == DONE:  # killed while it cleaned up
            return _clean_up(job, target) if ranks.is_first else None
        done = _do_rows(job, target, backend, ranks, retry_failed)
        first_does(lambda: _check_rows(job, target, done))
        rows = _rows(job, done, base)
        captions_done = share_from_first(job.work.captions.read(len(rows.new_captions)) if ranks.is_first else None)
        extract_captions(job, rows.new_captions, captions_done, backend, ranks)
        wait_for_all()
        if not ranks.is_first:
            return None
        finish(job.work.folder, target.folder, job.recipe, rows, backend.encode_text([""])[0].cpu(), base)
        job.work.enter(DONE)
        return _clean_up(job, target)


@contextmanager
def _alone(job: Job, base: BaseStore | None, ranks: Ranks) -> Iterator[None]:
    """Collective. Keep other runs out of the folder for the block, and let it be ready for rows."""
    with ExitStack() as stack:

        def start() -> None:
            stack.enter_context(job.work.taken(first=True))
            job.work.start(job.layout, len(texts_needed([item.caption for item in job.inputs.items], job.layout.name, base)))
            if base is not None and job.work.stage is None:
                base.remember(job.work)

        first_does(start)
        if not ranks.is_first:
            stack.enter_context(job.work.taken(first=False))
        yield


def _do_rows(job: Job, target: Target, backend: Backend, ranks: Ranks, retry_failed: bool) -> Progress:
    """Collective. Do the rows that are missing; returns what then is done, the same on every rank."""
    num_inputs, ledger = len(job.inputs.items), job.work.rows
    retry = retry_failed and job.work.stage is None
    done: Progress = share_from_first(ledger.read(num_inputs, without_rejected=retry) if ranks.is_first else None)
    if done.num_missing < num_inputs and done.num_missing:
        log.info("%d of %d inputs were done before", num_inputs - done.num_missing, num_inputs)
    if done.num_missing:
        try:
            extract_rows(job, share_of(job.inputs, done, ranks), len(done.reasons), backend, ranks.rank)
        except RejectsError as error:
            _list_rejects(job, target, ledger.read(num_inputs))
            advice = "the same command with a higher limit goes on, --retry_failed tries those again"
            raise RejectsError(f"{error.sentences[0]}; {target.failed_tsv} has the reasons; {advice}") from None
    wait_for_all()
    return share_from_first(ledger.read(num_inputs) if ranks.is_first else None)


def _list_rejects(job: Job, target: Target, done: Progress) -> None:
    """Write the table of what was rejected; with rows added to a store, after what earlier extractions into it rejected."""
    items = job.inputs.items
    found = [Reject(items[number].id, items[number].file, *done.reasons[number]) for number in sorted(done.reasons)]
    earlier = target.earlier_rejects(job.inputs) if job.work.manifest.appends_to else []
    write_rejects(target.failed_tsv, earlier + job.inputs.rejects + found)


def _check_rows(job: Job, target: Target, done: Progress) -> None:
    """List what was rejected, and let rows be final. Raises: RejectsError if too little is left."""
    _list_rejects(job, target, done)
    if done.num_missing:
        raise AssertionError(f"{done.num_missing} rows are missing after all were done")
    job.check_failures(len(done.reasons))
    if not done.is_kept.any():
        raise RejectsError(f"none of the {job.inputs.num_seen} inputs gave a row; {target.failed_tsv} says why for each")
    if job.work.stage is None:
        job.work.enter(CLOSING)


def _rows(job: Job, done: Progress, base: BaseStore | None) -> Rows:
    kept = [job.inputs.items[number] for number in np.flatnonzero(done.is_kept)]
    captions = [item.caption for item in kept]
    return Rows([item.id for item in kept], captions, done.is_kept, texts_needed(captions, job.layout.name, base))


def _clean_up(job: Job, target: Target) -> Outcome:
    """The store stands: what it was made in goes."""
    job.work.remove()
    record, seen = read_record(target.folder), job.inputs.num_seen
    assert record is not None
    earlier = len(target.earlier_rejects(job.inputs))  # they come first
    return Outcome(seen, read_rejects(target.failed_tsv)[earlier:], record)
