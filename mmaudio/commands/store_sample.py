"""The part of `mmaudio store verify` that encodes rows again: what its options ask for."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mmaudio.base.errors import Problems, UserError
from mmaudio.base.logs import progress
from mmaudio.commands.backend_options import backend_keywords
from mmaudio.commands.store_request import check_choice

if TYPE_CHECKING:
    from mmaudio.features.backend import Backend
    from mmaudio.features.inputs import Inputs
    from mmaudio.features.reading import ReadingRules
    from mmaudio.store.reader import Store
    from mmaudio.store.verify import Check


@dataclass(frozen=True)
class Sample:
    """Which rows are encoded again, from what, and how."""

    num: int
    seed: int
    num_workers: int
    inputs: "Inputs"
    backend: "Backend"
    rules: "ReadingRules"
    captions: dict[str, str]  # id → caption in the source table
    source: str

    def check(self, store: "Store") -> "list[Check]":
        """Rows against their media, and captions of all rows against the source table, where one was given."""
        from mmaudio.features.reencode import encode_rows
        from mmaudio.store.compare import limits_of
        from mmaudio.store.sample import check_null_text, check_sample, check_weights, check_words, draw_rows
        from mmaudio.store.schema import TEXT

        rows = draw_rows(self.num, store.num_rows, self.seed)
        dtypes = {name: store.dtype(name) for name in (*store.feature_names, TEXT)}
        encoded = progress(encode_rows(store, rows, self.inputs, self.backend, self.rules, self.num_workers), len(rows), "encode again")
        words = [check_words(store, self.captions, self.source)] if self.source else []
        limits = limits_of(dtypes)
        sample = check_sample(store, encoded, rows, limits)
        null_text = check_null_text(store, self.backend.encode_text([""])[0].cpu(), limits["caption"])
        return [check_weights(store, self.backend.weights), null_text, sample, *words]


def open_sample(options: argparse.Namespace, tsv: Path, folder: Path) -> Sample | None:
    """Everything a sample needs, loaded; None where none was asked for, or the store cannot be read, which is said elsewhere.

    Raises: UserError with every mistake in what was given.
    """
    if options.sample is None or not folder.is_dir() or not tsv.is_file():
        return None
    from mmaudio.base.ranks import Ranks, pick_device, set_threads
    from mmaudio.features.backend import Backend
    from mmaudio.features.plan import BACKENDS, FOR_AUDIO, FOR_VIDEO, BackendPlan
    from mmaudio.features.reading import ReadingRules
    from mmaudio.store.convert import backend_of_store
    from mmaudio.store.lengths import spec_of_store
    from mmaudio.store.reader import Store

    try:
        store = Store.open_unchecked(tsv, folder)
    except UserError:
        return None
    problems = Problems()
    problems.check(lambda: check_choice("--backend", options.backend, BACKENDS))
    device = problems.check(lambda: pick_device(options.device, Ranks()))
    name, spec = problems.check(lambda: backend_of_store(store, options.backend)), problems.check(lambda: spec_of_store(store))
    plan = problems.check(lambda: BackendPlan(name, spec, **backend_keywords(options))) if name and spec else None
    found = problems.check(lambda: _find(options, store.kind, tsv))
    problems.check(lambda: _check_normalised(options.normalize_audio, store))
    problems.raise_any()
    assert device is not None and plan is not None and found is not None
    set_threads(Ranks())
    backend = Backend.load(plan, device, FOR_VIDEO if store.kind == "video" else FOR_AUDIO)
    made, said = store.record, options.normalize_audio
    normalised = said == "true" if said else made is None or made.normalised
    rules = ReadingRules(normalised, made.frame_rule if made else "ffmpeg", made.resize if made else "host")  # as the published system
    return Sample(options.sample, options.seed, options.num_workers, found[0], backend, rules, found[1], found[2])


def _check_normalised(said: str | None, store: "Store") -> None:
    """Raises: UserError if --normalize_audio says otherwise than the record."""
    recorded = None if store.record is None else str(store.record.normalised).lower()
    if said is not None and recorded not in (None, said):
        raise UserError(f"--normalize_audio is {said} and the record of store {store.memmap_dir} says {recorded}; leave it out")


def _find(options: argparse.Namespace, kind: str, tsv: Path) -> "tuple[Inputs, dict[str, str], str]":
    """The media, and captions by id with the name of the table they are from (both empty where none was given)."""
    from mmaudio.clips.table import read_videos
    from mmaudio.features.inputs import find_audio_clips, find_videos

    data_dir, problems = Path(options.data_dir), Problems()
    foreign = ("source_tsv",) if kind == "audio" else ("captions_tsv", "clips_tsv")
    for name in foreign:
        if getattr(options, name) is not None:
            problems.add(f"--{name} is not for a store of kind {kind}")
    for name in ("captions_tsv", "clips_tsv") if kind == "audio" else ():
        if getattr(options, name) is None:
            problems.add(f"the rows of an audio store are clips of recordings; say which: --{name} TABLE")
    problems.raise_any()
    if kind == "audio":
        inputs = find_audio_clips(data_dir, Path(options.captions_tsv), Path(options.clips_tsv))
        return inputs, {item.id: item.caption for item in inputs.items}, options.captions_tsv
    inputs = find_videos(data_dir, tsv, of_store=True)
    if options.source_tsv is None:
        return inputs, {}, ""
    return inputs, {video.id: video.label for video in reversed(read_videos(Path(options.source_tsv)))}, options.source_tsv
