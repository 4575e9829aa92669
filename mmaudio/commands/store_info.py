"""`mmaudio store info`: what a store of features holds."""

import json
from collections.abc import Sequence
from dataclasses import asdict

from mmaudio.base.errors import Problems, UserError
from mmaudio.base.options import parse_options
from mmaudio.commands.store_options import store_parser, store_places


def main(words: Sequence[str]) -> int:
    parser = store_parser("info", "training/example_output/memmap/vgg-example")
    problems = Problems()
    options = parse_options(parser, words, problems)
    problems.raise_any()
    from mmaudio.store.reader import Store
    from mmaudio.store.schema import dtype_name

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
