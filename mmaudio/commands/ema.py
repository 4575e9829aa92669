"""`mmaudio ema`: averaged weights of any length, worked out after training from the snapshots of a run."""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmaudio.base.errors import Problems, UserError, nearest
from mmaudio.base.files import atomic_path, write_json
from mmaudio.base.logs import start_logging
from mmaudio.base.options import options_parser, parse_options

if TYPE_CHECKING:
    from mmaudio.trainer.averages import RunAverages

ACTIONS = {"synthesize": "write the averaged weights of one length", "sweep": "find the length with the least validation loss"}
SIGMAS = (0.03, 0.04, 0.05, 0.065, 0.08, 0.1, 0.13, 0.18, 0.25)
STEP_HELP = """which stored step (default: the newest). Steps count EMA updates, one for each training iteration from ema.start on: step N
is the average after iteration ema.start + N, whatever ema.update_every is. Files <profile>.<N>.pt in ema_ckpts say which are stored"""


def main(argv: Sequence[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        lines = "\n".join(f"  {name:<11} {what}" for name, what in ACTIONS.items())
        print(f"usage: mmaudio ema ACTION RUN [OPTIONS]\n\n{lines}\n\nexample:\n  mmaudio ema synthesize output/birds --sigma 0.08")
        return 0
    action, *words = argv
    if action not in ACTIONS:
        raise UserError(f"no action {action!r}{nearest(action, ACTIONS)}; known are {', '.join(ACTIONS)}")
    return _synthesize(words) if action == "synthesize" else _sweep(words)


def _parser(action: str, example: str) -> argparse.ArgumentParser:
    parser = options_parser(f"mmaudio ema {action}", f"Averages of a run: {ACTIONS[action]}.", f"mmaudio ema {action} {example}")
    parser.add_argument("run", help="folder of the run, output/<exp_id>; its recorded settings say which snapshots and which model")
    parser.add_argument("--step", type=int, default=None, help=STEP_HELP)
    return parser


def _open(options: argparse.Namespace, sigmas: Sequence[float], problems: Problems) -> "RunAverages | None":
    from mmaudio.checkpoints.run_state import RunFiles
    from mmaudio.commands.evaluation import read_settings
    from mmaudio.trainer.averages import RunAverages

    run = Path(options.run)
    settings = problems.check(lambda: read_settings(run, problems))
    return problems.check(lambda: RunAverages.open(settings, RunFiles(run, settings.name()), sigmas, options.step)) if settings else None


def _synthesize(words: Sequence[str]) -> int:
    parser = _parser("synthesize", "output/birds --sigma 0.08")
    parser.add_argument("--sigma", type=float, required=True, help="width of the average relative to the steps done, about 0.03 to 0.25")
    parser.add_argument("--output", default=None, help="a .pth file (default: <exp_id>_ema_sigma<sigma>[_step<N>].pth in the run's folder)")
    problems = Problems()
    options = parse_options(parser, words, problems)
    averages = _open(options, [options.sigma], problems)
    if options.output is not None and (Path(options.output).suffix != ".pth" or Path(options.output).exists()):
        problems.add(f"--output is {options.output}; want the name of a .pth file that is not there yet")
    problems.raise_any()
    assert averages is not None
    at_step = "" if options.step is None else f"_step{options.step}"
    name = f"{averages.settings.name()}_ema_sigma{options.sigma:g}{at_step}.pth"
    path = Path(options.output) if options.output else averages.files.folder / name
    averages.write(path)
    print(f"averaged weights, sigma {options.sigma:g} at step {averages.n} (fit error {averages.fits[0].error:.1%}): {path}")
    return 0


def _read_sigmas(text: str) -> list[float]:
    try:
        return sorted({float(part) for part in text.split(",")})
    except ValueError:
        raise UserError(f"--sigmas is {text!r}; want numbers with commas between them, such as 0.03,0.05,0.08") from None


def _sweep(words: Sequence[str]) -> int:
    parser = _parser("sweep", "output/birds --sigmas 0.05,0.08,0.12")
    parser.add_argument("--sigmas", default=",".join(map(str, SIGMAS)), help="widths, with commas between them (default %(default)s)")
    parser.add_argument("--device", default="auto", help="cuda, cuda:N, cpu, or auto (default)")
    parser.add_argument("--batch_size", type=int, default=None, help="rows at a time; the loss does not depend on it (default: at most 64)")
    problems = Problems()
    options = parse_options(parser, words, problems)
    if options.batch_size is not None and options.batch_size < 1:
        problems.add(f"--batch_size is {options.batch_size}; want a whole number above 0")
    from mmaudio.base.ranks import Ranks, pick_device, set_threads
    from mmaudio.report.sweep import draw_sweep, sweep_table
    from mmaudio.trainer.sweep import sweep

    device = problems.check(lambda: pick_device(options.device, Ranks()))
    sigmas = problems.check(lambda: _read_sigmas(options.sigmas))
    averages = _open(options, sigmas or SIGMAS, problems)
    problems.raise_any()
    assert averages is not None
    assert device is not None
    start_logging()
    set_threads(Ranks())
    told, folder = sweep(averages, device, options.batch_size).entries(), averages.files.folder
    with atomic_path(folder / "ema_sweep.png") as temporary:
        draw_sweep(temporary, told, f"{averages.settings.name()} after {averages.n:,} EMA updates")
    write_json(folder / "ema_sweep.json", told)
    print(sweep_table(told))
    at_step = "" if options.step is None else f" --step {options.step}"
    command = f"mmaudio ema synthesize {shlex.quote(options.run)} --sigma {told['best']['sigma']:g}{at_step}"
    edge = {min(told["sigmas"]): ", the narrowest tried", max(told["sigmas"]): ", the widest tried"}.get(told["best"]["sigma"], "")
    print(f"best is sigma {told['best']['sigma']:g}{edge}; write its weights with: {command}")
    print(f"all in {folder / 'ema_sweep.json'} and {folder / 'ema_sweep.png'}")
    return 0
