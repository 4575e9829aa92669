"""Command-line options of the scripts: argparse, but every mistake is heard of at once and a wrong name gets the nearest."""

import argparse
from collections.abc import Sequence
from typing import NoReturn

from mmaudio.base.errors import Problems, UserError, nearest
from mmaudio.base.specs import AudioSpec


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
