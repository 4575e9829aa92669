"""`mmaudio weights`: which published weight files there are, which are here, and getting and verifying them, and a user's own."""

import argparse
import functools
from collections.abc import Sequence
from pathlib import Path

from mmaudio.base.errors import Problems, UserError, nearest
from mmaudio.base.logs import start_logging
from mmaudio.base.options import options_parser, parse_options, spec_of
from mmaudio.base.specs import DEFAULT_DURATION_S, DTYPES, MODES, torch_dtype
from mmaudio.checkpoints.run_files import WeightsRecord, record_beside
from mmaudio.features.backend_plan import BACKENDS
from mmaudio.files.checksums import SAFETENSORS, DamagedFileError
from mmaudio.files.ownership import foreign, move_aside
from mmaudio.weights import CATALOGUE, VARIANTS, extraction_needs, find_row, generation_needs

ACTIONS = ("list", "fetch", "verify", "export")
_EXAMPLE = "mmaudio weights fetch vae_16k synchformer\n  mmaudio weights fetch --variant small_16k\n  mmaudio weights verify output/birds"
_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".safetensors")  # of the files that are verified in a folder


def main(argv: Sequence[str]) -> int:
    if argv and argv[0] == "export":
        return _export_action(argv[1:])
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
    from mmaudio.weights.locate import state

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
    from mmaudio.weights.locate import verify_row

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
    from mmaudio.checkpoints.load import foreign_record, read_record
    from mmaudio.files.tensor_files import verify_tensor_file

    is_checked = verify_tensor_file(path)
    read_record(path)
    if (sentence := foreign_record(path)) is not None:
        raise UserError(sentence)
    return "right" if is_checked else "unchecked: it can be read, but carries no checksum"


# ---- `mmaudio weights export`: the weights of a run as one file that says what it holds

NEEDS_NO_RECORD = ("variant", "backend", "duration")  # options that say what a record would
MB = 10**6


def _export_action(argv: Sequence[str]) -> int:
    problems = Problems()
    options = parse_options(_export_parser(), argv, problems)
    from mmaudio.checkpoints.export import SUFFIXES, find_weights

    for name, known in (("format", SUFFIXES), ("dtype", DTYPES)):
        value = getattr(options, name)
        if value not in known:
            problems.add(f"--{name} is {value!r}{nearest(value, known)}; known are {', '.join(known)}")
    source = problems.check(lambda: find_weights(Path(options.run), options.weights))
    record = problems.check(lambda: record_of(options, source)) if source else None
    output = (
        problems.check(lambda: output_file(options, source, SUFFIXES[options.format])) if source and options.format in SUFFIXES else None
    )
    problems.raise_any()
    assert source is not None and record is not None and output is not None
    _export(source, output, record, options.dtype)
    return 0


def _export_parser() -> argparse.ArgumentParser:
    example = "mmaudio weights export output/birds --format safetensors --output birds.safetensors"
    what = "Write the weights of a run as one file that says what it holds: model, audio, latent statistics, step."
    parser = options_parser("mmaudio weights export", what, example)
    parser.add_argument("run", help="folder of the run, output/<exp_id>, or a file of weights, or a checkpoint")
    parser.add_argument("--format", default="safetensors", help="safetensors (default), or pth as the published system loads it")
    parser.add_argument("--weights", default=None, help="ema, last, or a file of the run (default: ema if there are any, otherwise last)")
    parser.add_argument("--output", default=None, help="file to write (default: <weights>_export.<format> beside the weights)")
    parser.add_argument("--dtype", default="fp32", help="fp32, bf16 or fp16 (default fp32); latent_mean and latent_std stay fp32")
    parser.add_argument("--overwrite", action="store_true", help="replace the output; what this program did not write is moved aside")
    parser.add_argument("--variant", default=None, help="which model weights without a record are of")
    parser.add_argument("--backend", default=None, help="what those were trained on (default pretrained)")
    parser.add_argument("--duration", type=float, default=None, help="on clips of how many seconds (default 8)")
    return parser


def output_file(options: argparse.Namespace, source: Path, suffixes: Sequence[str]) -> Path:
    """The file to write. Raises: UserError for one of another kind, or one that must not be replaced."""
    output = Path(options.output) if options.output else source.with_name(f"{source.stem}_export{suffixes[0]}")
    if output.is_dir():
        raise UserError(f"--output is {output}, which is a folder; name a file, such as {output / (source.stem + suffixes[0])}")
    if output.suffix not in suffixes:
        raise UserError(f"--output is {output}, but the name of a {options.format} file ends in {' or '.join(suffixes)}")
    if output.exists() and output.samefile(source):
        raise UserError(f"--output is {output}, the very weights to export; name another file")
    if output.exists() and not options.overwrite:
        raise UserError(f"{output} is there already; add --overwrite to replace it, or name another file with --output")
    record = record_beside(output)
    if not options.overwrite and record.exists() and output.suffix != SAFETENSORS:
        raise foreign(record, "it is where the record of the export goes: name another file with --output, add --overwrite")
    return output


def record_of(options: argparse.Namespace, source: Path) -> WeightsRecord:
    """What is known of the weights: from their record, or where they have none, from the options.

    Raises: UserError where both say something, or neither which model it is.
    """
    from mmaudio.checkpoints.load import load_checkpoint, read_record
    from mmaudio.network import find_variant

    record = read_record(source)
    given = [f"--{name}" for name in NEEDS_NO_RECORD if getattr(options, name) is not None]
    if record is not None:
        if given:
            raise UserError(f"the record of {source} says already which weights these are ({record.variant}); leave out {', '.join(given)}")
        return record
    if options.variant is None:
        raise UserError(f"{source} has no record beside it; say which model it is with --variant")
    if options.backend not in (None, *BACKENDS):
        raise UserError(f"no backend {options.backend!r}{nearest(options.backend, BACKENDS)}; known are {', '.join(BACKENDS)}")
    spec = spec_of(find_variant(options.variant).mode, DEFAULT_DURATION_S if options.duration is None else options.duration)
    try:
        step = load_checkpoint(source).steps_done
    except DamagedFileError:
        step = 0
        print(f"note: {source} does not say after how many iterations it was saved; the export will say 0")
    return WeightsRecord(options.variant, spec.mode, spec.duration_s, options.backend or "pretrained", step, source.stem)


def _export(source: Path, output: Path, record: "WeightsRecord", dtype: str) -> None:
    from mmaudio.checkpoints.export import convert, weights_metadata, write_export
    from mmaudio.checkpoints.load import load_weights
    from mmaudio.network import STALE_KEYS, check_weights

    weights = {name: tensor for name, tensor in load_weights(source).items() if name not in STALE_KEYS}
    check_weights(weights, record.variant)
    told, converted = weights_metadata(record, weights, dtype), convert(weights, torch_dtype(dtype))
    _make_way(output)
    write_export(output, converted, told)
    print(f"weights: {source} ({record.variant}, step {record.step})")
    print(f"export: {output} ({dtype}, {output.stat().st_size / MB:.1f} MB)")


def _make_way(output: Path) -> None:
    """Move what stands where an export goes aside, unless it is weights that this program wrote, as their record says."""
    from mmaudio.checkpoints.load import read_record

    try:
        is_ours = read_record(output) is not None
    except UserError:
        is_ours = False
    for path in (output,) if output.suffix == SAFETENSORS else (output, record_beside(output)):
        if path.exists() and not is_ours:
            move_aside(path, follows_link=True)
