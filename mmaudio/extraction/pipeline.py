"""Inputs to a store of features, by any number of processes on any number of machines; the same store however often it was killed.

take the folder and reserve the disk → rows → captions of the rows that stand → store
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmaudio.base.errors import RejectsError, UserError, named
from mmaudio.clips.clip_tables import Reject, read_rejects, write_rejects
from mmaudio.distributed.collectives import barrier, on_first_rank
from mmaudio.distributed.ranks import Ranks
from mmaudio.extraction.finish import FinishedRows, extract_captions, finish_store, texts_needed
from mmaudio.extraction.job import Job
from mmaudio.extraction.missing_rows import captions_done, forget_lost_rows, kept_hash
from mmaudio.extraction.progress import Progress, changed_inputs
from mmaudio.extraction.rows import extract_rows, share_of
from mmaudio.extraction.store_target import StoreTarget, StoreToExtend
from mmaudio.extraction.workspace import CLOSING, DONE, read_manifest
from mmaudio.features.backend import Backend
from mmaudio.files.atomic import remove_leftovers
from mmaudio.files.locks import hold_target
from mmaudio.store.format import StoreRecord, table_path
from mmaudio.store.reader import Store, read_store_record

log = logging.getLogger(__name__)
_TRIES = 3  # to do what was lost while it was being done


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
    job: Job, target: StoreTarget, base: StoreToExtend | None, backend: Backend, ranks: Ranks, *, retry_failed: bool = False
) -> Outcome:
    """Collective. Do what is missing, and make the store. Returns how it ended.

    Args:
        base: the store that rows are added to, if it is not to be a new one.
        retry_failed: try inputs again that were rejected when this extraction was started before.
    Raises: UserError where another run is at work, or the disk is full; RejectsError where too many inputs failed. All that
        was done is kept in either case.
    """
    with _workspace_taken(job, target, base, ranks):
        if on_first_rank(lambda: job.work.stage) != DONE:
            done = _extract_rows(job, target, base, backend, ranks, retry_failed)
            rows = _finished(job, done, base)
            _do_captions(job, rows.new_captions, backend, ranks)
            on_first_rank(lambda: _make_store(job, target, rows, backend, base))
        return on_first_rank(lambda: _clean_up(job, target))


@contextmanager
def _workspace_taken(job: Job, target: StoreTarget, base: StoreToExtend | None, ranks: Ranks) -> Iterator[None]:
    """Collective. Keep other runs from the store and out of the folder for the block, and let the folder be ready for rows."""
    with ExitStack() as stack:

        def hold_store() -> None:
            stack.enter_context(hold_target(target.folder, f"the store {target.folder}", shared_by=job.work.manifest.job))

        def start() -> None:
            hold_store()
            stack.enter_context(job.work.taken(is_first=True))
            job.work.check()
            _check_as_planned(job, target, base)
            if job.work.stage == DONE and not _stands(job, target):
                job.work.clear()
            job.work.start(((item.id, item.file) for item in job.inputs.items), _most_captions(job, base))
            if base is not None and job.work.stage is None:
                base.remember(job.work)

        on_first_rank(start)
        if not ranks.is_first:
            stack.enter_context(job.work.taken(is_first=False))
            job.work.check_joined()
            hold_store()
        barrier()
        try:
            yield
        except FileNotFoundError as error:
            job.work.check_there()
            if error.filename is not None and Path(error.filename).parent == job.work.folder:
                advice = "run it again: what it held is made again"
                raise UserError(f"{error.filename} was removed while this extraction was at work; {advice}") from None
            raise
        if not ranks.is_first:
            stack.close()
        barrier()  # the first leaves last, and removes what the locks leave


def _check_as_planned(job: Job, target: StoreTarget, base: StoreToExtend | None) -> None:
    """Raises: UserError where another job has changed what stands at the target since this one was planned."""
    if base is None:
        target.check_rows(job.inputs, job.recipe, source="this extraction", is_resumed=job.work.was_final)
    elif not job.work.is_begun:
        found = read_store_record(base.folder)
        if found is None or found.rows_hash != base.record.rows_hash:
            raise UserError(f"store {base.folder} was changed just now, before rows could be added; run it again")


def _most_captions(job: Job, base: StoreToExtend | None) -> int:
    """How many captions there are to encode, if every input gives a row."""
    return len(texts_needed([item.caption for item in job.inputs.items], job.recipe.layout.name, base))


def _stands(job: Job, target: StoreTarget) -> bool:
    """Whether the store that the folder says was made is the one at the target, and whole."""
    try:
        record = Store.open(table_path(target.folder), target.folder).record
    except UserError as error:
        log.warning("%s says that its store was made, and there is none that is whole (%s)", job.work.folder, error.sentences[0])
        return False
    return record is not None and record.rows_hash == read_manifest(job.work.folder).get("rows_hash")


def _extract_rows(
    job: Job, target: StoreTarget, base: StoreToExtend | None, backend: Backend, ranks: Ranks, retry_failed: bool
) -> Progress:
    """Collective. Do the rows that are missing; returns what then is done, the same on every rank.

    Raises: RejectsError if too little is left, once all that is known to fail is listed.
    """
    num_inputs, progress_log, num_captions = len(job.inputs.items), job.work.rows, _most_captions(job, base)

    def done_before() -> Progress:
        if retry_failed and job.work.stage == CLOSING:
            raise UserError(f"the rows of {job.work.folder} are final; leave --retry_failed out, and then --append what failed")
        done = progress_log.read(num_inputs, without_rejected=retry_failed)
        if forget_lost_rows(job, done, num_captions):
            done = progress_log.read(num_inputs, without_rejected=retry_failed)
        done = _without_replaced(job, done, retry_failed)
        if 0 < done.num_missing < num_inputs:
            log.info("%d of %d inputs were done before", num_inputs - done.num_missing, num_inputs)
        _check_failures(job, target, done)
        return done

    def done_now() -> Progress:
        job.work.check_there()
        done = progress_log.read(num_inputs)
        _list_rejects(job, target, done)
        _check_failures(job, target, done)
        assert not done.num_missing, f"{done.num_missing} rows are missing after all were done"
        if not done.is_kept.any():
            job.work.remove()  # nothing is worth keeping, and the next run tries all of them
            seen = f"none of the {job.inputs.num_seen} inputs gave a row{' to add' if job.work.manifest.appends_to else ''}"
            raise RejectsError(f"{seen}; {target.failed_tsv} says why for each; the same command tries them again")
        if job.work.stage is None:
            if forget_lost_rows(job, done, num_captions):  # since they were done
                return progress_log.read(num_inputs)
            job.work.enter(CLOSING, kept_hash=kept_hash(done))
        return done

    done = on_first_rank(done_before)
    for _ in range(_TRIES):
        progress_log.follow(done.latest)
        if done.num_missing:
            extract_rows(job, share_of(job.inputs, done, ranks), len(done.reasons), backend, ranks.rank)
        barrier()
        done = on_first_rank(done_now)
        if not done.num_missing:
            return done
    raise _loses(job)


def _do_captions(job: Job, captions: Sequence[str], backend: Backend, ranks: Ranks) -> None:
    """Collective. Encode the captions that are missing."""
    for _ in range(_TRIES):
        done = on_first_rank(lambda: captions_done(job, captions))
        if not done.num_missing:
            return
        job.work.captions.follow(done.latest)
        extract_captions(job, captions, done, backend, ranks)
        barrier()
    raise _loses(job)


def _loses(job: Job) -> UserError:
    return UserError(f"the columns in {job.work.folder} lose what is written to them, again and again; see to that disk, or name another")


def _without_replaced(job: Job, done: Progress, retry_failed: bool) -> Progress:
    """What is done, but for what was made of files that were replaced since: that is to be done again, unless rows are final."""
    changed = changed_inputs(job.inputs, done, job.num_workers)
    is_final = job.work.stage == CLOSING
    if is_final:
        changed = [number for number in changed if done.is_kept[number]]
    if not changed:
        return done
    ids = named([job.inputs.items[number].id for number in changed])
    if is_final:
        log.warning("the files of %d rows (%s) were replaced after all rows were done; the rows stay as they are", len(changed), ids)
        return done
    job.work.rows.forget(changed)
    log.info("%d of %d inputs (%s) are done again: their files were replaced since", len(changed), len(job.inputs.items), ids)
    return job.work.rows.read(len(job.inputs.items), without_rejected=retry_failed)


def _check_failures(job: Job, target: StoreTarget, done: Progress) -> None:
    """Raises: RejectsError if more inputs failed than may; they are listed."""
    try:
        job.check_failures(len(done.reasons))
    except RejectsError as error:
        _list_rejects(job, target, done)
        advice = "the same command with a higher limit goes on, --retry_failed tries those again"
        raise RejectsError(f"{error.sentences[0]}; {target.failed_tsv} has the reasons; {advice}") from None


def _list_rejects(job: Job, target: StoreTarget, done: Progress) -> None:
    """Write the table of what was rejected; with rows added to a store, after what earlier extractions into it rejected."""
    items = job.inputs.items
    found = [Reject(items[number].id, items[number].file, *done.reasons[number]) for number in sorted(done.reasons)]
    earlier = target.earlier_rejects(job.inputs) if job.work.manifest.appends_to else []
    remove_leftovers(target.failed_tsv)
    write_rejects(target.failed_tsv, earlier + job.inputs.rejects + found)


def _finished(job: Job, done: Progress, base: StoreToExtend | None) -> FinishedRows:
    kept = [job.inputs.items[number] for number in np.flatnonzero(done.is_kept)]
    captions = [item.caption for item in kept]
    return FinishedRows([item.id for item in kept], captions, done.is_kept, texts_needed(captions, job.recipe.layout.name, base))


def _make_store(job: Job, target: StoreTarget, rows: FinishedRows, backend: Backend, base: StoreToExtend | None) -> None:
    aside = base is None and target.makes_way(job.inputs, job.recipe)  # as before any work; another extraction may have ended there since
    record = finish_store(job.work, target.folder, rows, backend.encode_text([""])[0].cpu(), base, aside=aside)
    job.work.enter(DONE, rows_hash=record.rows_hash)


def _clean_up(job: Job, target: StoreTarget) -> Outcome:
    """The store stands: what it was made in goes."""
    job.work.remove()
    record, seen = read_store_record(target.folder), job.inputs.num_seen
    assert record is not None
    earlier = len(target.earlier_rejects(job.inputs))  # they come first
    return Outcome(seen, read_rejects(target.failed_tsv)[earlier:], record)
