"""Command-line options of the scripts: argparse, but every mistake is heard of at once and a wrong name gets the nearest."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from mmaudio.base.errors import Problems, UserError, nearest
from mmaudio.base.specs import CHOSEN_DTYPES, DTYPES, AudioSpec, torch_dtype

if TYPE_CHECKING:
    import torch


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def options_parser(prog: str, description: str, example: str) -> argparse.ArgumentParser:
    """A parser whose help ends in an example and whose errors are UserErrors."""
    shape = argparse.RawDescriptionHelpFormatter
    return _Parser(prog=prog, description=description, epilog=f"example:\n  {example}", formatter_class=shape, allow_abbrev=False)


def parse_options(parser: argparse.ArgumentParser, argv: Sequence[str] | None, problems: Problems) -> argparse.Namespace:
    """Parse `argv` (None: the process's own). Unknown options go to `problems`, each with the nearest valid name.

    Raises: UserError for values argparse itself refuses.
    """
    options, unknown = parser.parse_known_args(argv)
    known = [name for action in parser._actions for name in action.option_strings if name.startswith("--")]
    for word in unknown:
        if word.startswith("-"):
            name = word.split("=", 1)[0]
            problems.add(f"unknown option {name}{nearest(name, known)}; see {parser.prog} --help")
    if unknown and not any(word.startswith("-") for word in unknown):
        problems.add(f"unexpected argument {unknown[0]!r}; see {parser.prog} --help")
    return options


def spec_of(mode: str, duration_s: float) -> AudioSpec:
    """The lengths of clips of --duration seconds. Raises: UserError for a duration that no clip can have."""
    try:
        return AudioSpec(mode, duration_s)
    except ValueError as error:
        raise UserError(f"--duration: {error}") from None


def read_column_dtypes(option: str, words: Sequence[str], layout: str) -> "dict[str, torch.dtype]":
    """Column → dtype. Raises: UserError with a sentence for every word that names none, and for a layout without a choice."""
    wrong = []
    for word in words:
        column, _, dtype = word.partition("=")
        if column not in CHOSEN_DTYPES:
            wrong.append(f"{option} {word}: no column {column!r}{nearest(column, CHOSEN_DTYPES)}; known are {', '.join(CHOSEN_DTYPES)}")
        elif dtype not in DTYPES:
            wrong.append(f"{option} {word}: no dtype {dtype!r}{nearest(dtype, DTYPES)}; known are {', '.join(DTYPES)}")
    if words and layout != "compact":
        wrong.append(f"{option} is for the compact layout; the published one is float32 throughout")
    if wrong:
        raise UserError(*wrong)
    return {column: torch_dtype(dtype) for column, _, dtype in (word.partition("=") for word in words)}
