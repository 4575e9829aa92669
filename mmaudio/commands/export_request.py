"""What `mmaudio weights export` is asked for, held against what is there: the file to write, and what is known of the weights."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmaudio.base.errors import UserError, nearest
from mmaudio.base.options import spec_of
from mmaudio.base.ownership import foreign, move_aside
from mmaudio.base.specs import DEFAULT_DURATION_S
from mmaudio.base.tensor_files import SAFETENSORS, DamagedFileError
from mmaudio.checkpoints.load import load_checkpoint, read_record
from mmaudio.checkpoints.run_state import WeightsRecord, record_path
from mmaudio.features.plan import BACKENDS
from mmaudio.network import find_variant

NEEDS_NO_RECORD = ("variant", "backend", "duration")  # options that say what a record would


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
    record = record_path(output)
    if not options.overwrite and record.exists() and output.suffix != SAFETENSORS:
        raise foreign(record, "it is where the record of the export goes: name another file with --output, add --overwrite")
    return output


def make_way(output: Path) -> None:
    """Move what stands where an export goes aside, unless it is weights that this program wrote, as their record says."""
    try:
        is_ours = read_record(output) is not None
    except UserError:
        is_ours = False
    for path in (output,) if output.suffix == SAFETENSORS else (output, record_path(output)):
        if path.exists() and not is_ours:
            move_aside(path, follows_link=True)


def record_of(options: argparse.Namespace, source: Path) -> WeightsRecord:
    """What is known of the weights: from their record, or where they have none, from the options.

    Raises: UserError where both say something, or neither which model it is.
    """
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
