"""`mmaudio store`: what a store of features holds, whether it is right, and its other layout. Picks the action."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from mmaudio.base.errors import Problems, UserError, nearest
from mmaudio.base.logs import start_logging
from mmaudio.base.options import options_parser, parse_options, read_column_dtypes
from mmaudio.base.specs import LAYOUTS
from mmaudio.files.locks import hold_target

if TYPE_CHECKING:
    import torch

    from mmaudio.base.specs import AudioSpec
    from mmaudio.store.reader import Store


# ---- What the actions of `mmaudio store` share: their names, and the store they are about

ACTIONS = {
    "info": "say what a store holds, as JSON",
    "verify": "read every number and say what holds; with --sample also encode rows again from their media",
    "convert": "write a store in the other layout, or with other dtypes",
}


def store_parser(action: str, example: str) -> argparse.ArgumentParser:
    """A parser of what every action takes: the store, and --tsv."""
    parser = options_parser(f"mmaudio store {action}", f"A store of features: {ACTIONS[action]}.", f"mmaudio store {action} {example}")
    parser.add_argument("store", help="folder of the store; its table is the .tsv of the same name beside it")
    parser.add_argument("--tsv", default=None, help="table of the store, where it lies elsewhere")
    return parser


def store_places(options: argparse.Namespace) -> tuple[Path, Path]:
    """Table and folder that the options name."""
    folder = Path(options.store)
    return Path(options.tsv) if options.tsv else folder.with_name(f"{folder.name}.tsv"), folder


def main(argv: Sequence[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        lines = "\n".join(f"  {name:<8} {what}" for name, what in ACTIONS.items())
        example = "mmaudio store verify training/example_output/memmap/vgg-example"
        print(f"usage: mmaudio store ACTION STORE [OPTIONS]\n\n{lines}\n\nexample:\n  {example}")
        return 0
    action, *words = argv
    if action not in ACTIONS:
        raise UserError(f"no action {action!r}{nearest(action, ACTIONS)}; known are {', '.join(ACTIONS)}")
    if action == "verify":
        from mmaudio.commands import store_verify

        return store_verify.main(words)
    return {"info": _info_action, "convert": _convert_action}[action](words)


# ---- How the rows of a store were made, from its record or, where it has none, from options


def add_making_options(parser: argparse.ArgumentParser) -> None:
    """--backend, --duration and --null_text."""
    parser.add_argument("--backend", default=None, help="what made the rows, pretrained or lite (default: what the record says)")
    parser.add_argument(
        "--duration", type=float, default=None, help="seconds of a clip, of a store without a record (default: by its lengths)"
    )
    parser.add_argument("--null_text", default=None, help="file with the text feature of the empty string, such as empty_string.pth")


def check_choice(option: str, given: str | None, known: Sequence[str]) -> None:
    """Raises: UserError for a word that is none of the known ones; None is no word."""
    if given not in (None, *known):
        raise UserError(f"{option}: no {given!r}{nearest(str(given), known)}; known are {', '.join(known)}")


def null_text_of(store: "Store", file: Path | None, backend: str, spec: "AudioSpec") -> "torch.Tensor":
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


# ---- `mmaudio store convert`: a store in the other layout, or with other dtypes, as a new store


def _convert_action(words: Sequence[str]) -> int:
    parser = store_parser("convert", "data/vgg-train my/vgg-train --layout compact --backend pretrained")
    parser.add_argument("output", help="folder of the new store; its table and record go beside it")
    parser.add_argument("--layout", required=True, help="layout of the new store, compact or published")
    parser.add_argument(
        "--dtype", metavar="COLUMN=fp32|bf16|fp16", action="append", default=[], help="of clip_features, sync_features or text; repeatable"
    )
    parser.add_argument("--replace", action="store_true", help="move what stands at the output, and would be lost, aside")
    add_making_options(parser)
    problems = Problems()
    options = parse_options(parser, words, problems)
    from mmaudio.features.backend_plan import BACKENDS
    from mmaudio.store.convert import backend_of_store, check_output, convert_store, spec_of_store
    from mmaudio.store.reader import Store

    (tsv, folder), output = store_places(options), Path(options.output)
    if not folder.is_dir():
        problems.add(f"no store at {folder}")
    problems.check(lambda: check_choice("--layout", options.layout, LAYOUTS))
    problems.check(lambda: check_choice("--backend", options.backend, BACKENDS))
    dtypes = problems.check(lambda: read_column_dtypes("--dtype", options.dtype, options.layout))
    problems.raise_any()
    store = Store.open(tsv, folder)
    null_file = Path(options.null_text) if options.null_text else None
    tables = [tsv, *([null_file] if null_file else [])]
    aside = problems.check(lambda: check_output(store, tables, output, replace=options.replace))
    backend = problems.check(lambda: backend_of_store(store, options.backend))
    spec = problems.check(lambda: spec_of_store(store, options.duration))
    null_text = problems.check(lambda: null_text_of(store, null_file, backend, spec)) if backend and spec else None
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


# ---- `mmaudio store info`: what a store of features holds


def _info_action(words: Sequence[str]) -> int:
    parser = store_parser("info", "training/example_output/memmap/vgg-example")
    problems = Problems()
    options = parse_options(parser, words, problems)
    problems.raise_any()
    from mmaudio.store.format import dtype_name
    from mmaudio.store.reader import Store

    tsv, folder = store_places(options)
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
