"""`mmaudio store convert`: a store in the other layout, or with other dtypes, as a new store."""

from collections.abc import Sequence
from pathlib import Path

from mmaudio.base.errors import Problems
from mmaudio.base.locks import hold_target
from mmaudio.base.logs import start_logging
from mmaudio.base.options import parse_options
from mmaudio.commands.column_dtypes import read_column_dtypes
from mmaudio.commands.store_options import store_parser, store_places
from mmaudio.commands.store_request import add_making_options, check_choice, null_text_of


def main(words: Sequence[str]) -> int:
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
    from mmaudio.features.plan import BACKENDS
    from mmaudio.store.convert import backend_of_store, check_output, convert_store
    from mmaudio.store.lengths import spec_of_store
    from mmaudio.store.reader import Store
    from mmaudio.store.schema import LAYOUTS

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
