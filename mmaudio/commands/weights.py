"""`mmaudio weights`: which published weight files there are, which are here, and getting and verifying them, and a user's own."""

import functools
import importlib
from collections.abc import Sequence
from pathlib import Path

from mmaudio.base.errors import Problems, UserError, nearest
from mmaudio.base.logs import start_logging
from mmaudio.base.options import options_parser, parse_options
from mmaudio.base.specs import MODES
from mmaudio.weights import CATALOGUE, VARIANTS, extraction_needs, find_row, generation_needs

ACTIONS = ("list", "fetch", "verify", "export")
_EXAMPLE = "mmaudio weights fetch vae_16k synchformer\n  mmaudio weights fetch --variant small_16k\n  mmaudio weights verify output/birds"
_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".safetensors")


def main(argv: Sequence[str]) -> int:
    if argv and argv[0] == "export":
        return int(importlib.import_module("mmaudio.commands.export").main(argv[1:]))
    parser = options_parser("mmaudio weights", "List, fetch and verify the published weight files.", _EXAMPLE)
    parser.add_argument("action", help="list, fetch, verify, or export (see mmaudio weights export --help)")
    parser.add_argument("names", nargs="*", help="as list names them; none: all of them (fetch wants some); verify: also files and folders")
    parser.add_argument("--mode", choices=list(MODES), default=None, help="what extracting features in a mode needs")
    parser.add_argument("--variant", choices=VARIANTS, default=None, help="what generating with a published network needs")
    parser.add_argument("--root", type=Path, default=Path(), help="what weights/ and ext_weights/ lie in (default: the working directory)")
    problems = Problems()
    options = parse_options(parser, argv, problems)
    if options.action not in ACTIONS:
        problems.add(f"no action {options.action!r}{nearest(options.action, ACTIONS)}; known are {', '.join(ACTIONS)}")
    places = [name for name in options.names if options.action == "verify" and name not in CATALOGUE and Path(name).exists()]
    wanted = [name for name in options.names if name not in places]
    for name in wanted:
        problems.check(functools.partial(find_row, name))
    problems.raise_any()
    wanted += extraction_needs(options.mode) if options.mode else ()
    wanted += generation_needs(options.variant) if options.variant else ()
    if options.action == "fetch" and not wanted:
        raise UserError(f"name what to fetch: --mode, --variant, or some of {', '.join(CATALOGUE)}")
    start_logging()
    names = list(dict.fromkeys(wanted)) or ([] if places else list(CATALOGUE))
    if options.action == "verify":
        _verify(names, options.root, [Path(place) for place in places])
    else:
        {"list": _list, "fetch": _fetch}[options.action](names, options.root)
    return 0


def _list(names: Sequence[str], root: Path) -> None:
    from mmaudio.weights.state import state

    head = ("name", "here", "size", "licence", "file", "needed for")
    lines = [head]
    for row in (CATALOGUE[name] for name in names):
        lines.append((row.name, state(row, root), row.size, row.licence, str(row.path(root)), row.needed_for))
    widths = [max(len(line[column]) for line in lines) for column in range(len(head) - 1)]
    for line in lines:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(line, widths, strict=False)), line[-1]]))


def _fetch(names: Sequence[str], root: Path) -> None:
    from mmaudio.weights.fetch import ensure

    problems = Problems()
    for name in names:  # one that cannot be had does not keep the others from coming
        path = problems.check(functools.partial(ensure, CATALOGUE[name], root, replace_wrong=True))
        if path is not None:
            print(f"{name}: {path}")
    problems.raise_any()


def _verify(names: Sequence[str], root: Path, places: Sequence[Path]) -> None:
    from mmaudio.weights.state import verify_row

    problems = Problems()
    for name in names:
        told = problems.check(functools.partial(verify_row, CATALOGUE[name], root))
        if told is not None:
            print(f"{name}: {told}")
    for place in places:
        for path in problems.check(functools.partial(_files, place)) or ():
            told = problems.check(functools.partial(_verify_file, path))
            if told is not None:
                print(f"{path}: {told}")
    problems.raise_any()


def _files(place: Path) -> list[Path]:
    """The files of tensors at a place: that file, or all in a folder and its folders. Raises: UserError if there are none."""
    if not place.is_dir():
        return [place]
    found = [path for path in sorted(place.rglob("*")) if path.suffix in _SUFFIXES and not path.name.startswith(".") and path.is_file()]
    if not found:
        raise UserError(f"{place} holds no file of weights ({', '.join(_SUFFIXES)}); name another folder, or a file")
    return found


def _verify_file(path: Path) -> str:
    """Read all of a file of tensors, and the record beside it. Returns: what to say of it. Raises: UserError."""
    from mmaudio.base.tensor_files import verify_tensor_file
    from mmaudio.checkpoints.load import foreign_record, read_record

    is_checked = verify_tensor_file(path)
    read_record(path)
    if (sentence := foreign_record(path)) is not None:
        raise UserError(sentence)
    return "right" if is_checked else "unchecked: it can be read, but carries no checksum"
