"""`mmaudio store verify`: read every number of a store, encode some rows again, and say what holds."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmaudio.base.errors import EXIT_REJECTS, Problems
from mmaudio.base.logs import start_logging
from mmaudio.base.options import parse_options
from mmaudio.commands.store_options import store_parser, store_places
from mmaudio.commands.store_sample import open_sample
from mmaudio.commands.store_sample_options import add_sample_options, check_options

if TYPE_CHECKING:
    from torch import Tensor

    from mmaudio.store.reader import Store
    from mmaudio.store.verify import Check, KnownEncoders


def main(words: Sequence[str]) -> int:
    parser = store_parser("verify", "my/stores/videos --sample 20 --data_dir my/videos --source_tsv my/train.tsv")
    parser.add_argument("--json", action="store_true", help="say it as JSON")
    add_sample_options(parser)
    problems = Problems()
    options = parse_options(parser, words, problems)
    check_options(options, problems)
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
    from mmaudio.base.null_text import read_null_text
    from mmaudio.encoders import LiteText, is_middle_grey
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
