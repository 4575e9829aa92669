"""Inputs to a store of features: read, encode, keep as parts, and merge; the same rows with any number of processes.

Reading runs ahead in threads while this process encodes, clip by clip, so that a row depends on nothing but its clip.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from mmaudio.base.errors import UserError
from mmaudio.base.files import check_replaceable
from mmaudio.base.logs import progress
from mmaudio.base.ranks import Ranks, wait_for_all
from mmaudio.base.specs import AudioSpec
from mmaudio.clips.rejects import Reject, rejects_path, write_rejects
from mmaudio.features.backend import Backend
from mmaudio.features.inputs import Input, Inputs
from mmaudio.features.parts import Manifest, Part, Parts
from mmaudio.features.plan import BackendPlan
from mmaudio.media.ahead import read_ahead
from mmaudio.media.audio import MediaError, read_training_clip
from mmaudio.media.video import VideoMedia, read_video
from mmaudio.store.schema import STORE_FILES, StoreRecord, null_text_path, record_path, table_path
from mmaudio.store.writer import Block, write_store

log = logging.getLogger(__name__)
T = TypeVar("T")
CACHED_CAPTIONS = 4096


@dataclass(frozen=True)
class Outcome:
    """How an extraction ended: rows of the store, what was not used, and the store's record."""

    num_seen: int
    rejects: list[Reject]
    record: StoreRecord

    @property
    def num_kept(self) -> int:
        return self.record.num_rows


@dataclass(frozen=True)
class Target:
    """Where a store goes and how it is laid out."""

    output_dir: Path
    name: str
    layout: str = "compact"

    @property
    def folder(self) -> Path:
        return self.output_dir / self.name

    @property
    def failed_tsv(self) -> Path:
        return rejects_path(self.folder)

    def check(self, tables: Sequence[Path]) -> None:
        """Raises: UserError if writing the store would replace something else: other files, or one of the tables read."""
        if not self.name or self.name != Path(self.name).name:
            raise UserError(f"the name of the store is {self.name!r}; want a name without slashes")
        check_replaceable(self.folder, STORE_FILES)
        beside = (table_path, record_path, null_text_path)
        written = [path.resolve() for path in (*(where(self.folder) for where in beside), self.failed_tsv)]
        for table in tables:
            if table.resolve() in written:
                raise UserError(
                    f"the store {self.folder} would replace {table}, which it is made from; give the store another name or folder"
                )


def plan_parts(
    latent_dir: Path, inputs: Inputs, plan: BackendPlan, weights: Mapping[str, str] | None, *, block_rows: int, normalised: bool
) -> Parts:
    """The parts of an extraction. Raises: UserError where nothing is left to extract or the folder is another run's.

    Args:
        weights: checksums of what the backend loaded; None before it is loaded, to find other mistakes first.
    """
    if not inputs.items:
        reasons = "; ".join(sorted({reject.reason for reject in inputs.rejects})[:3]) or "the table has no rows"
        raise UserError(f"none of the {inputs.num_seen} inputs can be used: {reasons}")
    manifest = Manifest(
        kind=inputs.kind,
        mode=plan.spec.mode,
        backend=plan.name,
        dtype=plan.dtype,
        weights=weights,
        duration_s=plan.spec.duration_s,
        normalised=normalised,
        block_rows=block_rows,
        num_inputs=len(inputs.items),
        inputs_hash=inputs.hash,
    )
    parts = Parts(latent_dir, manifest)
    parts.check()
    return parts


def _encode_audio(backend: Backend, wave: Tensor) -> dict[str, Tensor]:
    mean, std = backend.encode_audio(wave[None])
    return {"mean": mean[0].cpu(), "std": std[0].cpu()}


def _encode_video(backend: Backend, media: VideoMedia) -> dict[str, Tensor]:
    assert media.wave is not None  # read_video(with_sound=True) rejects a file without sound
    clip, sync = backend.encode_clip(media.clip_u8[None]), backend.encode_sync(media.sync_u8[None])
    return {**_encode_audio(backend, media.wave), "clip_features": clip[0].cpu(), "sync_features": sync[0].cpu()}


def extract_parts(parts: Parts, inputs: Inputs, backend: Backend, ranks: Ranks, num_workers: int) -> None:
    """Collective. Do the blocks that have no part yet, every world_size-th of them here."""
    if ranks.is_first:
        parts.start()
    wait_for_all()
    missing = [block for block in range(parts.num_blocks) if not parts.has(block)]
    wait_for_all()  # everyone has looked before anyone writes: the shares are cut from the same list
    size = parts.manifest.block_rows
    mine = missing[ranks.rank :: ranks.world_size]
    items = [item for block in mine for item in inputs.items[block * size : (block + 1) * size]]

    @lru_cache(maxsize=CACHED_CAPTIONS)
    def text(caption: str) -> Tensor:
        return backend.encode_text([caption])[0].cpu()

    spec, normalised = backend.spec, parts.manifest.normalised
    if inputs.kind == "audio":
        encoded = _encoded(
            items, lambda i: read_training_clip(i.path, i.start_sample, i.end_sample, spec), _encode_audio, backend, num_workers
        )
    else:
        encoded = _encoded(
            items, lambda i: read_video(i.path, spec, with_sound=True, normalise=normalised), _encode_video, backend, num_workers
        )
    rows = progress(encoded, len(items), f"extract {inputs.kind}", ranks.rank)
    for block in mine:
        num = min(size, len(inputs.items) - block * size)
        parts.save(block, _collect([next(rows) for _ in range(num)], text))
    next(rows, None)  # lets the bar close and the reading threads end
    wait_for_all()


def _encoded(
    items: list[Input], read: Callable[[Input], T], encode: Callable[[Backend, T], dict[str, Tensor]], backend: Backend, num_workers: int
) -> Iterator[tuple[Input, dict[str, Tensor] | Reject]]:
    for item, media in read_ahead(read, items, num_workers):
        if isinstance(media, MediaError):
            log.warning("%s left out: %s", item.id, media)
            yield item, Reject(item.id, item.path.name, "read", str(media))
        else:
            yield item, encode(backend, media)


def _collect(results: list[tuple[Input, dict[str, Tensor] | Reject]], text: Callable[[str], Tensor]) -> Part:
    kept = [(item, row) for item, row in results if not isinstance(row, Reject)]
    names = kept[0][1] if kept else ()
    return Part(
        ids=[item.id for item, _ in kept],
        captions=[item.caption for item, _ in kept],
        columns={name: torch.stack([row[name] for _, row in kept]) for name in names},
        texts={item.caption: text(item.caption) for item, _ in kept},
        rejects=[row for _, row in results if isinstance(row, Reject)],
    )


def merge_parts(parts: Parts, inputs: Inputs, backend: Backend, target: Target) -> Outcome:
    """Stream all parts into the store and write the table of rejects; the parts are removed once the store stands.

    Raises: UserError if no input gave a row (the rejects are written all the same, the parts kept).
    """
    index: list[tuple[str, str]] = []
    rejects = list(inputs.rejects)
    for part in parts:
        index += zip(part.ids, part.captions, strict=True)
        rejects += part.rejects
    write_rejects(target.failed_tsv, rejects)
    if not index:
        raise UserError(f"none of the {inputs.num_seen} inputs gave a row; {target.failed_tsv} says why for each")
    spec: AudioSpec = backend.spec
    record = write_store(
        target.output_dir,
        target.name,
        kind=inputs.kind,
        layout=target.layout,
        spec=spec,
        backend=backend.name,
        index=index,
        blocks=(Block(part.ids, part.captions, part.columns, part.texts) for part in parts if part.ids),
        null_text=backend.encode_text([""])[0].cpu(),
        weights=backend.weights,
    )
    parts.remove()
    return Outcome(inputs.num_seen, rejects, record)
