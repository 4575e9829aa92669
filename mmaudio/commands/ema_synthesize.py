"""`mmaudio ema synthesize`: the averaged weights of one length, as a file."""

from collections.abc import Sequence
from pathlib import Path

from mmaudio.base.errors import Problems
from mmaudio.base.options import parse_options
from mmaudio.commands.ema_options import averages_parser, note_poor_fit, open_averages


def main(words: Sequence[str]) -> int:
    parser = averages_parser("synthesize", "output/birds --sigma 0.08")
    parser.add_argument("--sigma", type=float, required=True, help="width of the average relative to the steps done, about 0.03 to 0.25")
    parser.add_argument("--output", default=None, help="a .pth file (default: <exp_id>_ema_sigma<sigma>[_step<N>].pth in the run's folder)")
    problems = Problems()
    options = parse_options(parser, words, problems)
    averages = open_averages(options, [options.sigma], problems)
    if options.output is not None and (Path(options.output).suffix != ".pth" or Path(options.output).exists()):
        problems.add(f"--output is {options.output}; want the name of a .pth file that is not there yet")
    problems.raise_any()
    assert averages is not None
    at_step = "" if options.step is None else f"_step{options.step}"
    name = f"{averages.settings.name()}_ema_sigma{options.sigma:g}{at_step}.pth"
    path = Path(options.output) if options.output else averages.files.folder / name
    averages.write(path)
    note_poor_fit(options.sigma, averages.fits[0].error)
    print(f"averaged weights, sigma {options.sigma:g} at step {averages.n} (fit error {averages.fits[0].error:.1%}): {path}")
    return 0
