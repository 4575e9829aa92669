"""`mmaudio ema synthesize`: the averaged weights of one length, as a file."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmaudio.base.errors import Problems
from mmaudio.base.options import parse_options
from mmaudio.commands.ema_options import averages_parser, note_poor_fit, open_averages

if TYPE_CHECKING:
    from mmaudio.trainer.averages import RunAverages


def _output(options: argparse.Namespace, averages: "RunAverages") -> Path:
    """The file to write. Raises: UserError where it, or its record, would take the place of what is not this run's."""
    from mmaudio.checkpoints.save import check_own

    at_step = "" if options.step is None else f"_step{options.step}"
    name = f"{averages.settings.name()}_ema_sigma{options.sigma:g}{at_step}.pth"
    path = Path(options.output) if options.output else averages.files.folder / name
    check_own(path, averages.settings.name(), "name another file: --output")
    return path


def main(words: Sequence[str]) -> int:
    parser = averages_parser("synthesize", "output/birds --sigma 0.08")
    parser.add_argument("--sigma", type=float, required=True, help="width of the average relative to the steps done, about 0.03 to 0.25")
    parser.add_argument("--output", default=None, help="a .pth file (default: <exp_id>_ema_sigma<sigma>[_step<N>].pth in the run's folder)")
    problems = Problems()
    options = parse_options(parser, words, problems)
    averages = open_averages(options, [options.sigma], problems)
    if options.output is not None and (Path(options.output).suffix != ".pth" or Path(options.output).exists()):
        problems.add(f"--output is {options.output}; want the name of a .pth file that is not there yet")
    path = problems.check(lambda: _output(options, averages)) if averages is not None else None
    problems.raise_any()
    assert averages is not None and path is not None
    averages.write(path)
    note_poor_fit(options.sigma, averages.fits[0].error)
    print(f"averaged weights, sigma {options.sigma:g} at step {averages.n} (fit error {averages.fits[0].error:.1%}): {path}")
    return 0
