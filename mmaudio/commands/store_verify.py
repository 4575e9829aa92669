"""`mmaudio store verify`: read every number of a store, encode some rows again, and say what holds."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mmaudio.base.errors import EXIT_REJECTS, Problems, UserError
from mmaudio.base.logs import progress, start_logging
from mmaudio.base.options import parse_options
from mmaudio.commands.store import check_choice, store_parser, store_places
from mmaudio.features.backend_plan import add_backend_options, backend_keywords

if TYPE_CHECKING:
    from torch import Tensor

    from mmaudio.extraction.inputs import Inputs
    from mmaudio.extraction.reading import ReadingRules
    from mmaudio.features.backend import Backend
    from mmaudio.store.reader import Store
    from mmaudio.store.verify import Check, KnownEncoders


# ---- The part of `mmaudio store verify` that encodes rows again: what its options ask for


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
        from mmaudio.extraction.rows import encode_rows
        from mmaudio.store.compare import limits_of
        from mmaudio.store.format import TEXT
        from mmaudio.store.row_check import check_encoder_weights, check_null_text, check_sample, check_words, draw_rows

        rows = draw_rows(self.num, store.num_rows, self.seed)
        dtypes = {name: store.dtype(name) for name in (*store.feature_names, TEXT)}
        encoded = progress(encode_rows(store, rows, self.inputs, self.backend, self.rules, self.num_workers), len(rows), "encode again")
        words = [check_words(store, self.captions, self.source)] if self.source else []
        limits = limits_of(dtypes)
        sample = check_sample(store, encoded, rows, limits)
        null_text = check_null_text(store, self.backend.encode_text([""])[0].cpu(), limits["caption"])
        return [check_encoder_weights(store, self.backend.weights), null_text, sample, *words]


def open_sample(options: argparse.Namespace, tsv: Path, folder: Path) -> Sample | None:
    """Everything a sample needs, loaded; None where none was asked for, or the store cannot be read, which is said elsewhere.

    Raises: UserError with every mistake in what was given.
    """
    if options.sample is None or not folder.is_dir() or not tsv.is_file():
        return None
    from mmaudio.distributed.devices import pick_device, set_threads
    from mmaudio.distributed.ranks import Ranks
    from mmaudio.extraction.reading import ReadingRules
    from mmaudio.features.backend import Backend
    from mmaudio.features.backend_plan import BACKENDS, FOR_AUDIO, FOR_VIDEO, BackendPlan
    from mmaudio.store.convert import backend_of_store, spec_of_store
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
    from mmaudio.clips.clip_tables import read_videos
    from mmaudio.extraction.inputs import find_audio_clips, find_videos

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


# ---- Options of `mmaudio store verify` that ask for rows to be encoded again

FOR_SAMPLE = ("data_dir", "captions_tsv", "clips_tsv", "source_tsv")


def add_sample_options(parser: argparse.ArgumentParser) -> None:
    """--sample and what it needs: where the media are, which backend, on what device."""
    parser.add_argument("--sample", type=int, default=None, help="encode so many rows again, at least the first and last, and compare them")
    parser.add_argument("--data_dir", default=None, help="folder of the media of the store's rows")
    parser.add_argument("--captions_tsv", default=None, help="of an audio store: table of captions (id, caption)")
    parser.add_argument("--clips_tsv", default=None, help="of an audio store: table of clips, as partition_clips.py writes it")
    parser.add_argument("--source_tsv", default=None, help="of a video store: table (id, label) to compare captions with")
    parser.add_argument("--backend", default=None, help="what made the store, pretrained or lite (default: what the record says)")
    add_backend_options(parser)
    parser.add_argument("--device", default="auto", help="cuda, cpu or auto (default auto)")
    parser.add_argument("--seed", type=int, default=0, help="which rows are drawn (default 0)")
    parser.add_argument("--num_workers", type=int, default=1, help="threads that read files (default 1)")
    parser.add_argument(
        "--normalize_audio", choices=["true", "false"], default=None, help="as when videos were extracted (default: what the record says)"
    )


def _check_options(options: argparse.Namespace, problems: Problems) -> None:
    """What can be told from the options alone."""
    given = [f"--{name}" for name in FOR_SAMPLE if getattr(options, name) is not None]
    if options.sample is None and given:
        problems.add(f"{', '.join(given)}: only for comparing rows with their media; add --sample N")
    if options.sample is not None:
        if options.sample < 1:
            problems.add(f"--sample is {options.sample}; want at least 1")
        if options.data_dir is None:
            problems.add("--sample compares rows with their media; say where these are: --data_dir FOLDER")
    if options.num_workers < 1:
        problems.add(f"--num_workers is {options.num_workers}; want at least 1")


def main(words: Sequence[str]) -> int:
    parser = store_parser("verify", "my/stores/videos --sample 20 --data_dir my/videos --source_tsv my/train.tsv")
    parser.add_argument("--json", action="store_true", help="say it as JSON")
    add_sample_options(parser)
    problems = Problems()
    options = parse_options(parser, words, problems)
    _check_options(options, problems)
    problems.raise_any()
    from mmaudio.store.verify import verify_store

    start_logging(rank=int(options.json))  # as of another rank, which tells errors alone: JSON has the output to itself
    tsv, folder = store_places(options)
    sample = open_sample(options, tsv, folder)  # first: a mistake in the options is heard of before hours of reading
    store, checks = verify_store(tsv, folder, lambda store: _known_encoders(store, compares=sample is None))
    if store is not None and sample is not None:
        checks += sample.check(store)
    num_problems = sum(len(check.problems) for check in checks)
    if options.json:
        told = [{"name": check.name, "holds": not check.problems, **vars(check)} for check in checks]
        print(json.dumps({"store": str(folder), "checks": told, "num_problems": num_problems}, indent=2, ensure_ascii=False))
    else:
        _print(checks, num_problems)
    return EXIT_REJECTS if num_problems else 0


def _known_encoders(store: "Store", *, compares: bool) -> "KnownEncoders":
    """What is known here of the encoders of a store, without loading any that has weights.

    Args:
        compares: the null text, too; a sample does that by itself.
    """
    from mmaudio.encoders import LiteText, is_middle_grey
    from mmaudio.store.format import read_null_text
    from mmaudio.store.verify import KnownEncoders
    from mmaudio.weights import find_row

    backend, published = store.record.backend if store.record is not None else None, find_row("empty_string").path(Path())

    def null_texts() -> "dict[str, Tensor]":
        lite = {"the lite encoder": LiteText()([""])[0]} if backend in ("lite", None) else {}
        return lite | ({f"the published encoder ({published})": read_null_text(published)} if knows_published else {})

    knows_published = backend != "lite" and published.is_file()
    is_lite = backend == "lite"
    may_have_zeros = is_middle_grey if is_lite else lambda _: False
    return KnownEncoders(null_texts if compares else None, is_lite or knows_published, may_have_zeros)


def _print(checks: "Sequence[Check]", num_problems: int) -> None:
    for check in checks:
        if not check.problems:
            print(f"holds  {check.name}: {check.said}")
        for problem in check.problems:
            print(f"WRONG  {check.name}: {problem}")
    print(f"{num_problems or 'no'} problem{'' if num_problems == 1 else 's'}")
