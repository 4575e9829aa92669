"""How the rows of a store were made, from its record or, where it has none, from options."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmaudio.base.errors import UserError, nearest

if TYPE_CHECKING:
    import torch

    from mmaudio.base.specs import AudioSpec
    from mmaudio.store.reader import Store


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
        from mmaudio.base.null_text import read_null_text

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
