"""Files and captions → cache files by the extractors that give them: only what is missing or out of date, by one or many processes."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from mmaudio.base.errors import UserError
from mmaudio.base.logs import progress
from mmaudio.base.machine import num_cores
from mmaudio.distributed.collectives import barrier, first_holds, gather_objects, on_first_rank
from mmaudio.files.tensor_files import all_finite
from mmaudio.media.audio import MediaError
from mmaudio.media.prefetch import prefetch_files
from mmaudio.metrics.extractors.available import TEXT, Encode, FeatureExtractor, check_requirements, extractors_for, weights_needed
from mmaudio.metrics.extractors.cache_update import PartWriter, Source, Work, begin_caches, finish_caches, made_of
from mmaudio.metrics.feature_cache import RECORD_FILE
from mmaudio.weights import checksum, locate

MOST_READERS = 8


@dataclass(frozen=True)
class _How:
    """With what this process encodes its share."""

    items: Mapping[str, Source]
    cache_dir: Path
    duration_s: float
    device: torch.device
    batch_size: int
    places: Mapping[str, str | Path]
    rank: int
    beat: Callable[[], None]

    @property
    def num_at_once(self) -> int:
        return 1 if self.device.type == "cpu" else self.batch_size


def extract_features(
    stems: Collection[str],
    items: Mapping[str, Path] | Mapping[str, str],
    cache_dir: Path,
    *,
    duration_s: float = 8.0,
    device: torch.device,
    batch_size: int = 16,
    places: Mapping[str, str | Path] | None = None,
    rank: int = 0,
    world_size: int = 1,
    beat: Callable[[], None] = lambda: None,
) -> dict[str, str]:
    """Collective where there are several processes. Make the cache files of `stems` hold the features of all items.

    What they hold already, made of the same files, weights and duration, is not made again (of other ids it stays, too), and a
    killed extraction goes on with at most a minute of its work lost. Each process encodes its share; the first one writes the cache files.

    Args:
        stems: names of cache files that extractors here give (`extractors_for`); an extractor's other stems are made along with them.
        items: id → audio or video file; for text, id → caption. A sound may be that of a video file.
        cache_dir: the folder of the cache; one run at a time works on it, and others wait for its end.
        duration_s: how much of each file is judged, from its start.
        batch_size: clips encoded together on a GPU; on a CPU each is encoded on its own, so that features do not depend on others.
        places: weight name → where it is, as `mmaudio.weights.locate` takes it; those not named are at their default place.
        rank, world_size: this process's place, and how many there are.
        beat: called before every batch.

    Returns: id → why it has not all its features, in the items' order, the same on every rank.
    Raises: UserError for a stem that no extractor here gives, and for packages and weights that are missing or wrong.
    """
    extractors, places = _extractors(stems, items), places or {}
    check_requirements(extractors, places, duration_s)
    how = _How(items, cache_dir, duration_s, device, batch_size, places, rank, beat)
    weights = on_first_rank(lambda: {name: checksum(locate(name, places.get(name))) for name in weights_needed(extractors)})
    with first_holds(cache_dir / RECORD_FILE, f"features in {cache_dir}", waits=True):
        works = on_first_rank(
            lambda: [begin_caches(extractor, made_of(extractor, weights, duration_s), items, cache_dir) for extractor in extractors]
        )
        failures, problem = _run_all(works, how, world_size)
        told = gather_objects((failures, problem))
        for _, found in told:
            if found is not None:
                raise found
        on_first_rank(partial(_finish_all, works, cache_dir))
        barrier()
    together = {clip_id: reason for failed, _ in told for clip_id, reason in failed.items()}
    return {clip_id: together[clip_id] for clip_id in items if clip_id in together}


def _finish_all(works: Sequence[Work], cache_dir: Path) -> None:
    for work in works:
        finish_caches(work, cache_dir)


def _extractors(stems: Collection[str], items: Mapping[str, Source]) -> tuple[FeatureExtractor, ...]:
    extractors, unknown = extractors_for(stems)
    if unknown:
        raise UserError(f"no judge here gives {', '.join(unknown)}; let av-bench make these features, and name the folder of its cache")
    kinds = {extractor.kind == TEXT for extractor in extractors}
    if len(kinds | {isinstance(source, str) for source in items.values()}) > 1:
        raise ValueError("judges of text take captions, those of sound and video take files: one call for each")
    return extractors


def _run_all(works: Sequence[Work], how: _How, world_size: int) -> tuple[dict[str, str], UserError | None]:
    """This process's failures, and what kept it from going on, for all processes to hear of."""
    failures: dict[str, str] = {}
    for work in works:
        try:
            found = _run(work, work.ids[how.rank :: world_size], how)
        except UserError as error:
            return failures, error
        failures = found | failures
    return failures, None


def _run(work: Work, ids: Sequence[str], how: _How) -> dict[str, str]:
    """Encode clips and write them as parts. The network is loaded once there is a clip to encode. Returns: id → reason."""
    failures: dict[str, str] = {}
    encode: Encode | None = None
    writer = PartWriter(how.cache_dir, work.extractor.name, work.made_of, how.rank)
    for batch in _batches(_given(work.extractor, ids, how), how.num_at_once):
        how.beat()
        readable = [(clip_id, given) for clip_id, given in batch if not isinstance(given, MediaError)]
        failures.update({clip_id: str(given) for clip_id, given in batch if isinstance(given, MediaError)})
        if not readable:
            continue
        if encode is None:
            encode = work.extractor.load(how.places, how.device)
        for (clip_id, _), features in zip(readable, _encode(encode, [given for _, given in readable], how.device), strict=True):
            if all(all_finite(tensor) for tensor in features.values()):
                writer.add(clip_id, work.marks[clip_id], features)
            else:
                failures[clip_id] = f"{work.extractor.name} gives features that are not finite numbers"
    writer.flush()
    return failures


def _given(extractor: FeatureExtractor, ids: Sequence[str], how: _How) -> Iterator[tuple[str, object]]:
    """What the network is given of each clip, or the MediaError that says why it cannot be."""
    if ids:
        num_readers = min(MOST_READERS, max(1, num_cores() - 1))
        ahead = prefetch_files(lambda clip_id: extractor.read(how.items[clip_id], how.duration_s), ids, num_readers)
        yield from progress(ahead, len(ids), extractor.name, how.rank)


def _batches(items: Iterator[tuple[str, object]], num_at_once: int) -> Iterator[list[tuple[str, object]]]:
    batch: list[tuple[str, object]] = []
    for item in items:
        batch.append(item)
        if len(batch) == num_at_once:
            yield batch
            batch = []
    if batch:
        yield batch


def _encode(encode: Encode, given: Sequence[object], device: torch.device) -> list[dict[str, Tensor]]:
    """The features of each clip by stem, on the CPU, computed in float32 whatever the caller computes in."""
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        together = {stem: tensor.float().cpu() for stem, tensor in encode(given).items()}
    return [{stem: tensor[place] for stem, tensor in together.items()} for place in range(len(given))]
