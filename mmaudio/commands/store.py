"""`mmaudio store`: what a store of features holds."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from mmaudio.base.errors import Problems, UserError, nearest
from mmaudio.base.options import options_parser, parse_options

ACTIONS = ("info",)


def main(argv: Sequence[str]) -> int:
    parser = options_parser(
        "mmaudio store", "Say what a store of features holds.", "mmaudio store info training/example_output/memmap/vgg-example"
    )
    parser.add_argument("action", help="info")
    parser.add_argument("store", help="folder of the store; its table is the .tsv of the same name beside it")
    parser.add_argument("--tsv", default=None, help="table of the store, where it lies elsewhere")
    problems = Problems()
    options = parse_options(parser, argv, problems)
    if options.action not in ACTIONS:
        problems.add(f"no action {options.action!r}{nearest(options.action, ACTIONS)}; known are {', '.join(ACTIONS)}")
    problems.raise_any()
    from mmaudio.store.reader import Store

    folder = Path(options.store)
    if not folder.is_dir():
        raise UserError(f"no store at {folder}")
    store = Store.open(Path(options.tsv) if options.tsv else folder.with_name(f"{folder.name}.tsv"), folder)
    lengths = {"latents": [store.num_latents, store.latent_channels], "clip_tokens": store.num_clip, "sync_tokens": store.num_sync}
    told = {"store": str(folder), "kind": store.kind, "layout": store.layout, "rows": store.num_rows, **lengths}
    told["distinct_captions"] = len(set(store.captions))
    told["record"] = asdict(store.record) if store.record else None
    print(json.dumps(told, indent=2))
    return 0
