"""Options about the backend that several commands share, and what they say."""

import argparse
from typing import Any

from mmaudio.base.dtypes import DTYPES
from mmaudio.base.errors import UserError

_PLACE = "NAME=PLACE"


def add_backend_options(parser: argparse.ArgumentParser) -> None:
    """--dtype, --pretrained, --memory_gb and --compile."""
    parser.add_argument("--dtype", choices=list(DTYPES), default="fp32", help="arithmetic of the pretrained networks (default fp32)")
    parser.add_argument(
        "--pretrained",
        metavar=_PLACE,
        action="append",
        default=[],
        help="a weight of `mmaudio weights list` from a path, or from a repository OWNER/REPO[@REVISION] of the hub; repeatable",
    )
    parser.add_argument("--memory_gb", type=float, default=None, help="for the pretrained networks beyond their weights")
    parser.add_argument("--compile", action="store_true", help="compile the pretrained networks (pays in long runs on a GPU)")


def read_places(words: list[str], option: str = "--pretrained") -> dict[str, str]:
    """Weight → place, as an option that may be repeated names them. Raises: UserError for a word that does not read NAME=PLACE."""
    pairs = [word.partition("=") for word in words]
    for name, _, place in pairs:
        if not name or not place:
            raise UserError(f"{option} is {name!r}; want {_PLACE}, such as synchformer=models/my_weights.pth")
    return {name: place for name, _, place in pairs}


def backend_keywords(options: argparse.Namespace) -> dict[str, Any]:
    """Keywords of a `BackendPlan` that these options give. Raises: UserError for a word that cannot be read."""
    return {"dtype": options.dtype, "places": read_places(options.pretrained), "memory_gb": options.memory_gb, "compiled": options.compile}
