"""The sound of a set: `<id>.flac` for every clip, in a folder that says what made it, so that only the same goes on in it.

What an id is as a file name, `base/file_names.py` says; `samples.json` has the id of every file.
"""

import json
import logging
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmaudio.base.file_names import check_distinct, file_of, ids_by_file
from mmaudio.base.files import sweep_below, text_hash, write_json
from mmaudio.base.ranks import Ranks, all_do, first_does, gather_objects, num_cores
from mmaudio.base.samples_file import FILES_KEY, read_ids
from mmaudio.batches import Batch, Mixture, validation_batches
from mmaudio.commands.evaluation.by_settings import conditions_of
from mmaudio.commands.evaluation.scoring import Beat
from mmaudio.commands.evaluation.sets import EvalSet
from mmaudio.features.backend import Backend
from mmaudio.generate.kept import jobs_due
from mmaudio.generate.model import Model
from mmaudio.generate.sampler import SampleSettings, sample_latents
from mmaudio.generate.samples import Job, Wishes, generate_samples
from mmaudio.media.audio import MediaError, audio_comment, read_audio, write_flac
from mmaudio.metrics.av_bench import CACHE as AV_BENCH_CACHE
from mmaudio.runs.names import FEATURES_FOLDER, SAMPLES_FILE, SCORES_FILE

log = logging.getLogger(__name__)

_MAKER = "mmaudio evaluate"


def check_samples(ids: Iterable[str]) -> None:
    """Raises: UserError for ids of a set whose samples would be in each other's way, or in that of what else is in their folder."""
    check_distinct(ids, (".flac",), besides=(SAMPLES_FILE, SCORES_FILE))


def begin_folder(folder: Path, made_by: Mapping[str, Any], ids: Collection[str] = (), *, keeps: bool) -> None:
    """Collective. Make a folder ready for samples: those that something else has made, or all without `keeps`, are removed first.

    Which clip a sample is of stands in the sample, so that a set may grow, and files that were exchanged are noticed.

    Args:
        ids: of the clips to sample.
    Raises: UserError as `check_samples`.
    """
    made = dict(made_by)

    def prepare() -> None:
        files = ids_by_file(ids, ".flac")
        known = _made_by(folder)
        sweep_below(folder)
        if folder.is_dir() and (known != made or not keeps):
            if keeps and known not in (None, made):
                log.info("the samples in %s were made by other weights or settings, and are made anew", folder)
            check_samples(files.values())
            _clear(folder, {**read_ids(folder), **files})
        files = {**read_ids(folder), **files}
        check_samples(files.values())
        write_json(folder / SAMPLES_FILE, {**made, FILES_KEY: dict(sorted(files.items()))})

    first_does(prepare)


def _made_by(folder: Path) -> dict[str, Any] | None:
    try:
        content = dict(json.loads((folder / SAMPLES_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    content.pop(FILES_KEY, None)
    return content


def _clear(folder: Path, files: Iterable[str]) -> None:
    """Remove what a folder of samples holds, those of `files`, which may be in folders below, among it."""
    (folder / SAMPLES_FILE).unlink(missing_ok=True)
    for features in (FEATURES_FOLDER, AV_BENCH_CACHE):
        shutil.rmtree(folder / features, ignore_errors=True)
    for path in [*folder.glob("*.flac"), *(folder / name for name in files)]:
        if path.is_file():
            path.unlink()


def sample_set(
    model: Model,
    chosen: EvalSet,
    how: SampleSettings,
    folder: Path,
    batch_size: int,
    ranks: Ranks,
    *,
    made_by: Mapping[str, Any],
    beat: Beat = lambda: None,
) -> dict[str, str]:
    """Collective. Sample what is not whole in the folder yet, this rank's share of it.

    Args:
        made_by: as in `begin_folder`.
    Returns: id → reason of the clips that failed.
    """
    if chosen.rows is not None:
        sample_rows(model, chosen.rows, how, folder, batch_size, ranks, max_rows=len(chosen.captions), beat=beat)
        failed: dict[str, str] = {}
    else:
        failed = all_do(lambda: _sample_media(model, chosen, how, folder, batch_size, ranks, json.dumps(made_by, sort_keys=True)))
    return {name: reason for part in gather_objects(failed) for name, reason in part.items()}


def _sample_media(
    model: Model, chosen: EvalSet, how: SampleSettings, folder: Path, batch_size: int, ranks: Ranks, made_by: str
) -> dict[str, str]:
    workers, duration_s = max(1, num_cores() // ranks.world_size - 1), model.backend.spec.duration_s
    wishes = Wishes(folder, duration_s, how, with_video=False, batch_size=batch_size, num_workers=workers, made_by=made_by)
    mine = list(chosen.captions.items())[ranks.rank :: ranks.world_size]
    jobs = jobs_due([Job(name, caption, chosen.videos.get(name)) for name, caption in mine], wishes)
    return {name: failure.reason for name, failure in generate_samples(model, jobs, wishes).items()} if jobs else {}


def sample_rows(
    model: Model,
    rows: Mixture,
    how: SampleSettings,
    folder: Path,
    batch_size: int,
    ranks: Ranks,
    *,
    max_rows: int | None = None,
    beat: Beat = lambda: None,
) -> None:
    """Collective. Sample this rank's share of stored rows; a batch whose sounds are all there is passed over."""

    def latents(batch: Batch) -> Tensor:
        return sample_latents(model.network, conditions_of(batch), how, model.dropped)

    _sound_rows(model.backend, rows, folder, batch_size, ranks, latents, max_rows, beat)


def sound_latents(
    backend: Backend, rows: Mixture, folder: Path, batch_size: int, ranks: Ranks, max_rows: int | None, beat: Beat = lambda: None
) -> None:
    """Collective. The latents of stored rows as the codec sounds them: the reference where the real sounds are not at hand."""
    _sound_rows(backend, rows, folder, batch_size, ranks, lambda batch: batch.a_mean.float(), max_rows, beat)


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
) -> None:
    parts = validation_batches(rows, batch_size=batch_size, rank=ranks.rank, world_size=ranks.world_size, max_rows=max_rows)

    def sound() -> None:
        with closing(parts):
            for batch in parts:
                clips = list(zip(batch.ids, batch.captions, strict=True))
                if not all(_is_whole(file_of(folder, name, ".flac"), _mark(name, caption)) for name, caption in clips):
                    waves_bs = backend.decode(latents(batch).to(backend.device)).cpu()
                    for (name, caption), wave in zip(clips, waves_bs, strict=True):
                        write_flac(file_of(folder, name, ".flac"), wave.numpy(), backend.spec.rate_hz, _mark(name, caption))
                beat()

    all_do(sound)  # a rank whose rows cannot be sampled waits for the others, and all of them raise


def _mark(name: str, caption: str) -> str:
    """What a sample says it is the sound of."""
    return f"{_MAKER} {text_hash([name, caption])}"


def _is_whole(path: Path, mark: str) -> bool:
    """Whether a sample is there, can be read to its end, and is of this clip."""
    try:
        is_of_it = audio_comment(path) == mark
        read_audio(path)
    except MediaError:
        return False
    return is_of_it
