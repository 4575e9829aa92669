"""The sound of a set, `<id>.flac` for every clip in a folder that says what made it, and of its reference."""

import json
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmaudio.base.machine import num_cores
from mmaudio.batches import Batch, Mixture, validation_batches
from mmaudio.distributed.collectives import barrier, first_holds, gather_objects, on_all_ranks, on_first_rank
from mmaudio.distributed.ranks import Ranks
from mmaudio.evaluation.evaluated_model import conditions_of
from mmaudio.evaluation.owned_folders import check_samples_folder, clear_folder, mark_in, samples_record
from mmaudio.evaluation.protocol import Beat
from mmaudio.evaluation.sets import EvalSet
from mmaudio.features.backend import Backend
from mmaudio.files.atomic import parse_json, sweep_below, text_hash, write_json
from mmaudio.files.file_names import check_distinct, file_of, ids_by_file
from mmaudio.files.owned_files import FILES_KEY, SAMPLES_FILE, read_ids
from mmaudio.files.ownership import MARK_KEY
from mmaudio.generate.jobs import GenerationJob, GenerationOptions
from mmaudio.generate.model import Model
from mmaudio.generate.sampler import SampleSettings, sample_latents
from mmaudio.generate.samples import generate_samples, jobs_missing
from mmaudio.media.audio import MediaError, audio_comment, read_audio, write_flac
from mmaudio.media.sample_marks import sample_mark
from mmaudio.runs.folder import SCORES_FILE
from mmaudio.store import record_path

log = logging.getLogger(__name__)


def check_samples(ids: Iterable[str]) -> None:
    """Raises: UserError for ids of a set whose samples would be in each other's way, or in that of what else is in their folder."""
    check_distinct(ids, (".flac",), besides=(SAMPLES_FILE, SCORES_FILE))


def begin_folder(folder: Path, made_by: Mapping[str, Any], ids: Collection[str] = (), *, of: str, keeps: bool) -> None:
    """Collective. Make a folder ready for samples: those that something else has made, or all without `keeps`, are removed first.

    Which clip a sample is of stands in the sample, so that a set may grow, and files that were exchanged are noticed.

    Args:
        ids: of the clips to sample.
        of: the set that the samples belong to, as `set_name` gives it; what was not made for it is left alone.
    Raises: UserError as `check_samples` and `check_samples_folder`.
    """
    made = dict(made_by)

    def prepare() -> None:
        files = ids_by_file(ids, ".flac")
        known = _made_by(folder, of)
        sweep_below(folder)
        clears = known != made or not keeps
        check_samples_folder(folder, of, ids, keeps=not clears)
        if folder.is_dir() and clears:
            if keeps and known not in (None, made):
                log.info("the samples in %s were made by other weights or settings, and are made anew", folder)
            check_samples(files.values())
            clear_folder(folder, of)
        files = {**(read_ids(folder) if mark_in(folder, of) else {}), **files}
        check_samples(files.values())
        write_json(folder / SAMPLES_FILE, {**samples_record(made, of), FILES_KEY: dict(sorted(files.items()))})

    on_first_rank(prepare)


def _made_by(folder: Path, of: str) -> dict[str, Any] | None:
    """What made the samples of a set; None where there are none."""
    if mark_in(folder, of) is None:
        return None
    content: dict[str, Any] = parse_json((folder / SAMPLES_FILE).read_text(encoding="utf-8"))
    return {name: value for name, value in content.items() if name not in (MARK_KEY, FILES_KEY)}


def sample_set(
    model: Model,
    chosen: EvalSet,
    how: SampleSettings,
    folder: Path,
    batch_size: int,
    ranks: Ranks,
    *,
    of: str,
    made_by: Mapping[str, Any],
    beat: Beat = lambda: None,
) -> dict[str, str]:
    """Collective. Sample what is not whole in the folder yet, this rank's share of it.

    Args:
        of, made_by: as in `begin_folder`.
    Returns: id → reason of the clips that failed.
    """
    if chosen.rows is not None:
        sample_rows(model, chosen.rows, how, folder, batch_size, ranks, of=of, max_rows=len(chosen.captions), beat=beat)
        failed: dict[str, str] = {}
    else:
        failed = on_all_ranks(lambda: _sample_media(model, chosen, how, folder, batch_size, ranks, of, json.dumps(made_by, sort_keys=True)))
    return {name: reason for part in gather_objects(failed) for name, reason in part.items()}


def _sample_media(
    model: Model, chosen: EvalSet, how: SampleSettings, folder: Path, batch_size: int, ranks: Ranks, of: str, made_by: str
) -> dict[str, str]:
    workers, duration_s = max(1, num_cores() // ranks.world_size - 1), model.backend.spec.duration_s
    options = GenerationOptions(
        folder, duration_s, how, with_video=False, batch_size=batch_size, num_workers=workers, made_by=made_by, of_set=of
    )
    mine = list(chosen.captions.items())[ranks.rank :: ranks.world_size]
    jobs = jobs_missing([GenerationJob(name, caption, chosen.videos.get(name)) for name, caption in mine], options)
    return {name: failure.reason for name, failure in generate_samples(model, jobs, options).items()} if jobs else {}


def sample_rows(
    model: Model,
    rows: Mixture,
    how: SampleSettings,
    folder: Path,
    batch_size: int,
    ranks: Ranks,
    *,
    of: str,
    max_rows: int | None = None,
    beat: Beat = lambda: None,
) -> None:
    """Collective. Sample this rank's share of stored rows; a batch whose sounds are all there is skipped."""

    def latents(batch: Batch) -> Tensor:
        return sample_latents(model.network, conditions_of(batch), how, model.dropped)

    _sound_rows(model.backend, rows, folder, batch_size, ranks, latents, max_rows, beat, of)


def sound_latents(
    backend: Backend,
    rows: Mixture,
    folder: Path,
    batch_size: int,
    ranks: Ranks,
    max_rows: int | None,
    beat: Beat = lambda: None,
    *,
    of: str,
) -> None:
    """Collective. The latents of stored rows as the codec sounds them: the reference where the real sounds are not at hand."""
    _sound_rows(backend, rows, folder, batch_size, ranks, lambda batch: batch.a_mean.float(), max_rows, beat, of)


@torch.no_grad()
def _sound_rows(
    backend: Backend,
    rows: Mixture,
    folder: Path,
    batch_size: int,
    ranks: Ranks,
    latents: Callable[[Batch], Tensor],
    max_rows: int | None,
    beat: Beat,
    of: str,
) -> None:
    parts = validation_batches(rows, batch_size=batch_size, rank=ranks.rank, world_size=ranks.world_size, max_rows=max_rows)

    def sound() -> None:
        with closing(parts):
            for batch in parts:
                clips = list(zip(batch.ids, batch.captions, strict=True))
                if not all(_is_whole(file_of(folder, name, ".flac"), _mark(of, name, caption)) for name, caption in clips):
                    waves_bs = backend.decode(latents(batch).to(backend.device)).cpu()
                    for (name, caption), wave in zip(clips, waves_bs, strict=True):
                        write_flac(file_of(folder, name, ".flac"), wave.numpy(), backend.spec.rate_hz, _mark(of, name, caption))
                beat()

    on_all_ranks(sound)  # a rank whose rows cannot be sampled waits for the others, and all of them raise


def _mark(of: str, name: str, caption: str) -> str:
    """What a sample says it is the sound of."""
    return sample_mark(of, id=name, hash=text_hash([name, caption]))


def _is_whole(path: Path, mark: str) -> bool:
    """Whether a sample is there, can be read to its end, and is of this clip."""
    try:
        is_of_it = audio_comment(path) == mark
        read_audio(path)
    except MediaError:
        return False
    return is_of_it


def with_reference(
    chosen: EvalSet, backend: Backend, folder: Path, batch_size: int, ranks: Ranks, beat: Beat = lambda: None, *, of: str
) -> EvalSet:
    """Collective. The same set with real sounds: its own if it has any, else decoded latents in `folder`, if it has rows.

    A folder made of the same rows by the same codec is used again. `of`: what its sounds belong to, as in `begin_folder`.
    """
    if chosen.sounds or chosen.rows is None:
        return chosen
    made_by = {
        "reference": "latents of the store, decoded",
        "backend": backend.name,
        "decoder": backend.weights,
        "stores": [store_identity(source.store.memmap_dir) for source in chosen.rows.sources],
    }
    if not folder.is_dir():
        log.info("no media of the real sounds are at hand (data.NAME.root, reference=FOLDER): their latents are sounded instead")
    with first_holds(folder / SAMPLES_FILE, f"the real sounds in {folder}", waits=True):  # evaluations of one set share them
        begin_folder(folder, made_by, chosen.captions, of=of, keeps=True)
        sound_latents(backend, chosen.rows, folder, batch_size, ranks, len(chosen.captions), beat, of=of)
        barrier()
    return replace(chosen, sounds={name: file_of(folder, name, ".flac") for name in chosen.captions})


def store_identity(memmap_dir: Path) -> str:
    """Changes when a store is written anew."""
    record = record_path(memmap_dir)
    return text_hash([str(memmap_dir), record.read_text(encoding="utf-8") if record.is_file() else ""])
