"""`mmaudio weights export`: the weights of a run as one file that says what it holds, for other programs and machines."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmaudio.base.dtypes import DTYPES, torch_dtype
from mmaudio.base.errors import Problems, nearest
from mmaudio.base.options import options_parser, parse_options

if TYPE_CHECKING:
    from mmaudio.checkpoints.run_state import WeightsRecord

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
    parser.add_argument("--overwrite", action="store_true", help="replace the output; what this program did not write is moved aside")
    parser.add_argument("--variant", default=None, help="which model weights without a record are of")
    parser.add_argument("--backend", default=None, help="what those were trained on (default pretrained)")
    parser.add_argument("--duration", type=float, default=None, help="on clips of how many seconds (default 8)")
    return parser


def main(argv: Sequence[str]) -> int:
    problems = Problems()
    options = parse_options(_parser(), argv, problems)
    from mmaudio.checkpoints.export import SUFFIXES
    from mmaudio.checkpoints.run_weights import find_weights
    from mmaudio.commands.export_request import output_file, record_of

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


def _export(source: Path, output: Path, record: "WeightsRecord", dtype: str) -> None:
    from mmaudio.checkpoints.export import convert, describe, write_export
    from mmaudio.checkpoints.load import load_weights
    from mmaudio.commands.export_request import make_way
    from mmaudio.network import STALE_KEYS, check_weights

    weights = {name: tensor for name, tensor in load_weights(source).items() if name not in STALE_KEYS}
    check_weights(weights, record.variant)
    told, converted = describe(record, weights, dtype), convert(weights, torch_dtype(dtype))
    make_way(output)
    write_export(output, converted, told)
    print(f"weights: {source} ({record.variant}, step {record.step})")
    print(f"export: {output} ({dtype}, {output.stat().st_size / MB:.1f} MB)")
