"""What the actions of `mmaudio store` share: their names, and the store they are about."""

import argparse
from pathlib import Path

from mmaudio.base.options import options_parser

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
