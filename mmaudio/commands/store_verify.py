"""`mmaudio store verify`: read every number of a store, encode some rows again, and say what holds."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mmaudio.base.errors import EXIT_REJECTS, Problems
from mmaudio.base.logs import start_logging
from mmaudio.base.options import parse_options
from mmaudio.commands.store_options import store_parser, store_places
from mmaudio.commands.store_sample import open_sample
from mmaudio.commands.store_sample_options import add_sample_options, check_options

if TYPE_CHECKING:
    from mmaudio.store.verify import Check


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
    store, checks = verify_store(tsv, folder)
    if store is not None and sample is not None:
        checks += sample.check(store)
    num_problems = sum(len(check.problems) for check in checks)
    if options.json:
        told = [{"name": check.name, "holds": not check.problems, **vars(check)} for check in checks]
        print(json.dumps({"store": str(folder), "checks": told, "num_problems": num_problems}, indent=2, ensure_ascii=False))
    else:
        _print(checks, num_problems)
    return EXIT_REJECTS if num_problems else 0


def _print(checks: "Sequence[Check]", num_problems: int) -> None:
    for check in checks:
        if not check.problems:
            print(f"holds  {check.name}: {check.said}")
        for problem in check.problems:
            print(f"WRONG  {check.name}: {problem}")
    print(f"{num_problems or 'no'} problem{'' if num_problems == 1 else 's'}")
