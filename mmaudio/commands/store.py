"""`mmaudio store`: what a store of features holds (`info`), whether it is right (`verify`), and its other layout (`convert`)."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mmaudio.base.errors import EXIT_REJECTS, Problems, UserError, nearest
from mmaudio.base.logs import progress, start_logging
from mmaudio.base.options import options_parser, parse_options, read_column_dtypes
from mmaudio.base.specs import LAYOUTS
from mmaudio.features.backend_plan import BACKENDS, FOR_AUDIO, FOR_VIDEO, BackendPlan, add_backend_options, backend_keywords
from mmaudio.files.locks import hold_target

if TYPE_CHECKING:
    import torch

    from mmaudio.base.specs import AudioSpec
    from mmaudio.extraction.inputs import Inputs
    from mmaudio.extraction.reading import ReadingRules
    from mmaudio.features.backend import Backend
    from mmaudio.store.reader import Store
    from mmaudio.store.verify import Check, KnownEncoders

ACTIONS = {
    "info": "say what a store holds, as JSON",
    "verify": "read every number and say what holds; with --sample also encode rows again from their media",
    "convert": "write a store in the other layout, or with other dtypes",
}


def main(argv: Sequence[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        lines = "\n".join(f"  {name:<8} {what}" for name, what in ACTIONS.items())
        example = "mmaudio store verify training/example_output/memmap/vgg-example"
        print(f"usage: mmaudio store ACTION STORE [OPTIONS]\n\n{lines}\n\nexample:\n  {example}")
        return 0
    action, *words = argv
    if action not in ACTIONS:
        raise UserError(f"no action {action!r}{nearest(action, ACTIONS)}; known are {', '.join(ACTIONS)}")
    return {"info": _info_action, "verify": _verify_action, "convert": _convert_action}[action](words)


def _store_parser(action: str, example: str) -> argparse.ArgumentParser:
    """A parser of what every action takes: the store, and --tsv."""
    parser = options_parser(f"mmaudio store {action}", f"A store of features: {ACTIONS[action]}.", f"mmaudio store {action} {example}")
    parser.add_argument("store", help="folder of the store; its table is the .tsv of the same name beside it")
    parser.add_argument("--tsv", default=None, help="table of the store, where it lies elsewhere")
    return parser


def _store_places(options: argparse.Namespace) -> tuple[Path, Path]:
    """Table and folder that the options name."""
    folder = Path(options.store)
    return Path(options.tsv) if options.tsv else folder.with_name(f"{folder.name}.tsv"), folder


def _check_choice(option: str, given: str | None, known: Sequence[str]) -> None:
    """Raises: UserError for a word that is none of the known ones; None is no word."""
    if given not in (None, *known):
        raise UserError(f"{option}: no {given!r}{nearest(str(given), known)}; known are {', '.join(known)}")


# ---- `mmaudio store info`: what a store of features holds


def _info_action(words: Sequence[str]) -> int:
    parser = _store_parser("info", "training/example_output/memmap/vgg-example")
    problems = Problems()
    options = parse_options(parser, words, problems)
    problems.raise_any()
    from mmaudio.store.format import dtype_name
    from mmaudio.store.reader import Store

    tsv, folder = _store_places(options)
    if not folder.is_dir():
        raise UserError(f"no store at {folder}")
    store = Store.open(tsv, folder)
    lengths = {"latents": [store.num_latents, store.latent_channels], "clip_tokens": store.num_clip, "sync_tokens": store.num_sync}
    told = {"store": str(folder), "kind": store.kind, "layout": store.layout, "rows": store.num_rows, **lengths}
    told["distinct_captions"] = len(set(store.captions))
    told["bytes_a_row"], told["bytes_of_shared_captions"] = store.row_bytes, store.shared_bytes
    told["dtypes"] = {name: dtype_name(dtype) for name, dtype in store.column_dtypes.items()}
    told["record"] = asdict(store.record) if store.record else None
    print(json.dumps(told, indent=2))
    return 0


# ---- `mmaudio store verify`: every number read, and what holds

FOR_SAMPLE = ("data_dir", "captions_tsv", "clips_tsv", "source_tsv")  # options that --sample alone has a use for


def _verify_action(words: Sequence[str]) -> int:
    parser = _store_parser("verify", "my/stores/videos --sample 20 --data_dir my/videos --source_tsv my/train.tsv")
    parser.add_argument("--json", action="store_true", help="say it as JSON")
    _add_sample_options(parser)
    problems = Problems()
    options = parse_options(parser, words, problems)
    _check_options(options, problems)
    problems.raise_any()
    from mmaudio.store.verify import verify_store

    start_logging(rank=int(options.json))  # as of another rank, which tells errors alone: JSON has the output to itself
    tsv, folder = _store_places(options)
    sample = _open_sample(options, tsv, folder)  # first: a mistake in the options is heard of before hours of reading
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


def _add_sample_options(parser: argparse.ArgumentParser) -> None:
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

    def null_texts() -> "dict[str, torch.Tensor]":
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


# ---- `mmaudio store verify --sample`: rows encoded again


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


def _open_sample(options: argparse.Namespace, tsv: Path, folder: Path) -> Sample | None:
    """Everything a sample needs, loaded; None where none was asked for, or the store cannot be read, which is said elsewhere.

    Raises: UserError with every mistake in what was given.
    """
    if options.sample is None or not folder.is_dir() or not tsv.is_file():
        return None
    from mmaudio.distributed.devices import pick_device, set_threads
    from mmaudio.distributed.ranks import Ranks
    from mmaudio.extraction.reading import ReadingRules
    from mmaudio.features.backend import Backend
    from mmaudio.store.convert import backend_of_store, spec_of_store
    from mmaudio.store.reader import Store

    try:
        store = Store.open_unchecked(tsv, folder)
    except UserError:
        return None
    problems = Problems()
    problems.check(lambda: _check_choice("--backend", options.backend, BACKENDS))
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


# ---- `mmaudio store convert`: a store in the other layout, or with other dtypes, as a new store


def _convert_action(words: Sequence[str]) -> int:
    parser = _store_parser("convert", "data/vgg-train my/vgg-train --layout compact --backend pretrained")
    parser.add_argument("output", help="folder of the new store; its table and record go beside it")
    parser.add_argument("--layout", required=True, help="layout of the new store, compact or published")
    parser.add_argument(
        "--dtype", metavar="COLUMN=fp32|bf16|fp16", action="append", default=[], help="of clip_features, sync_features or text; repeatable"
    )
    parser.add_argument("--replace", action="store_true", help="move what stands at the output, and would be lost, aside")
    _add_making_options(parser)
    problems = Problems()
    options = parse_options(parser, words, problems)
    from mmaudio.store.convert import backend_of_store, check_output, convert_store, spec_of_store
    from mmaudio.store.reader import Store

    (tsv, folder), output = _store_places(options), Path(options.output)
    if not folder.is_dir():
        problems.add(f"no store at {folder}")
    problems.check(lambda: _check_choice("--layout", options.layout, LAYOUTS))
    problems.check(lambda: _check_choice("--backend", options.backend, BACKENDS))
    dtypes = problems.check(lambda: read_column_dtypes("--dtype", options.dtype, options.layout))
    problems.raise_any()
    store = Store.open(tsv, folder)
    null_file = Path(options.null_text) if options.null_text else None
    tables = [tsv, *([null_file] if null_file else [])]
    aside = problems.check(lambda: check_output(store, tables, output, replace=options.replace))
    backend = problems.check(lambda: backend_of_store(store, options.backend))
    spec = problems.check(lambda: spec_of_store(store, options.duration))
    null_text = problems.check(lambda: _null_text_of(store, null_file, backend, spec)) if backend and spec else None
    if dtypes and store.kind == "audio" and set(dtypes) != {"text"}:
        problems.add(f"store {folder} is of kind audio; --dtype is for its text alone")
    problems.raise_any()
    assert backend is not None and spec is not None and null_text is not None and aside is not None
    start_logging()
    with hold_target(output, f"the store {output}"):
        aside = check_output(store, tables, output, replace=options.replace)  # once more: another job may have ended there since
        record = convert_store(store, output, options.layout, spec=spec, backend=backend, null_text=null_text, dtypes=dtypes, aside=aside)
    before, after = store.row_bytes, Store.open(output.with_name(f"{output.name}.tsv"), output)
    print(f"{output}: {record.num_rows} rows, {record.layout} layout, {after.row_bytes:,} bytes a row ({folder}: {before:,})")
    return 0


def _add_making_options(parser: argparse.ArgumentParser) -> None:
    """--backend, --duration and --null_text."""
    parser.add_argument("--backend", default=None, help="what made the rows, pretrained or lite (default: what the record says)")
    parser.add_argument(
        "--duration", type=float, default=None, help="seconds of a clip, of a store without a record (default: by its lengths)"
    )
    parser.add_argument("--null_text", default=None, help="file with the text feature of the empty string, such as empty_string.pth")


def _null_text_of(store: "Store", file: Path | None, backend: str, spec: "AudioSpec") -> "torch.Tensor":
    """The text feature of the empty string: of a file, of the store, or what the lite backend makes of it.

    Raises: UserError where there is none.
    """
    if file is not None:
        from mmaudio.store.format import read_null_text

        return read_null_text(file)
    found = store.null_text()
    if found is not None:
        return found
    if backend != "lite":
        beside = f"{store.memmap_dir.name}.empty_string.pth beside it"
        raise UserError(
            f"store {store.memmap_dir} has no text feature of the empty string, inside or as {beside}; give it: --null_text FILE,"
            " such as the one that `mmaudio weights fetch empty_string` gets"
        )
    from mmaudio.features.backend import build_backend

    return build_backend("lite", spec.mode, needs=("text",)).encode_text([""])[0]
