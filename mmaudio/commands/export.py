"""`mmaudio weights export`: the weights of a run as one file that says what it holds, for other programs and machines."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmaudio.base.errors import Problems, UserError, nearest
from mmaudio.base.options import options_parser, parse_options
from mmaudio.base.specs import DEFAULT_DURATION_S, AudioSpec

if TYPE_CHECKING:
    from mmaudio.checkpoints.run_state import WeightsRecord

NEEDS_NO_RECORD = ("variant", "backend", "duration")
MB = 10**6


def _parser() -> argparse.ArgumentParser:
    example = "mmaudio weights export output/birds --format safetensors --output birds.safetensors"
    what = "Write the weights of a run as one file that says what it holds: model, audio, latent statistics, step."
    parser = options_parser("mmaudio weights export", what, example)
    parser.add_argument("run", help="folder of the run, output/<exp_id>, or a file of weights, or a checkpoint")
    parser.add_argument("--format", default="safetensors", help="safetensors (default), or pth as the published system loads it")
    parser.add_argument("--weights", default=None, help="ema, last, or a file of the run (default: ema if there are any, otherwise last)")
    parser.add_argument("--output", default=None, help="file to write (default: <weights>_export.<format> beside the weights)")
    parser.add_argument("--dtype", default="fp32", help="fp32, bf16 or fp16 (default fp32); latent_mean and latent_std stay fp32")
    parser.add_argument("--overwrite", action="store_true", help="replace the output where it is there already")
    parser.add_argument("--variant", default=None, help="which model weights without a record are of")
    parser.add_argument("--backend", default=None, help="what those were trained on (default pretrained)")
    parser.add_argument("--duration", type=float, default=None, help="on clips of how many seconds (default 8)")
    return parser


def _source(options: argparse.Namespace) -> Path:
    """The file to export. Raises: UserError where there is none, or it is not clear which."""
    from mmaudio.checkpoints.export import find_weights

    run = Path(options.run)
    if run.is_dir():
        return find_weights(run, options.weights)
    if not run.is_file():
        raise UserError(f"no run at {run}; a run's folder is output/<exp_id>")
    if options.weights is not None:
        raise UserError(
            f"{run} is a file, so --weights {options.weights} has nothing to choose from; give the run's folder, or leave it out"
        )
    return run


def _output(options: argparse.Namespace, source: Path, suffixes: Sequence[str]) -> Path:
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
    return output


def _record(options: argparse.Namespace, source: Path) -> "WeightsRecord":
    """What is known of the weights: from their record, or where they have none, from the options.

    Raises: UserError where both say something, or neither which model it is.
    """
    from mmaudio.base.tensor_files import DamagedFileError
    from mmaudio.checkpoints.load import load_checkpoint, read_record
    from mmaudio.checkpoints.run_state import WeightsRecord
    from mmaudio.network import find_variant

    record = read_record(source)
    given = [f"--{name}" for name in NEEDS_NO_RECORD if getattr(options, name) is not None]
    if record is not None:
        if given:
            raise UserError(f"the record of {source} says already which weights these are ({record.variant}); leave out {', '.join(given)}")
        return record
    if options.variant is None:
        raise UserError(f"{source} has no record beside it; say which model it is with --variant")
    mode = find_variant(options.variant).mode
    duration_s = DEFAULT_DURATION_S if options.duration is None else options.duration
    try:
        AudioSpec(mode, duration_s)
    except ValueError as error:
        raise UserError(f"--duration: {error}") from None
    try:
        step = load_checkpoint(source).steps_done
    except DamagedFileError:
        step = 0
        print(f"note: {source} does not say after how many iterations it was saved; the export will say 0")
    return WeightsRecord(options.variant, mode, duration_s, options.backend or "pretrained", step, source.stem)


def main(argv: Sequence[str]) -> int:
    problems = Problems()
    options = parse_options(_parser(), argv, problems)
    from mmaudio.checkpoints.export import DTYPES, SUFFIXES

    for name, known in (("format", SUFFIXES), ("dtype", DTYPES)):
        value = getattr(options, name)
        if value not in known:
            problems.add(f"--{name} is {value!r}{nearest(value, known)}; known are {', '.join(known)}")
    source = problems.check(lambda: _source(options))
    record = problems.check(lambda: _record(options, source)) if source else None
    output = problems.check(lambda: _output(options, source, SUFFIXES[options.format])) if source and options.format in SUFFIXES else None
    problems.raise_any()
    assert source is not None and record is not None and output is not None
    _export(source, output, record, options.dtype)
    return 0


def _export(source: Path, output: Path, record: "WeightsRecord", dtype: str) -> None:
    from mmaudio.checkpoints.export import DTYPES, convert, describe, write_export
    from mmaudio.checkpoints.load import load_weights
    from mmaudio.network.variants import STALE_KEYS, check_weights

    weights = {name: tensor for name, tensor in load_weights(source).items() if name not in STALE_KEYS}
    check_weights(weights, record.variant)
    told = describe(record, weights, dtype)
    write_export(output, convert(weights, DTYPES[dtype]), told)
    print(f"weights: {source} ({record.variant}, step {record.step})")
    print(f"export: {output} ({dtype}, {output.stat().st_size / MB:.1f} MB)")
