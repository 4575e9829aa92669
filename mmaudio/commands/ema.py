"""`mmaudio ema`: averaged weights of any length from the snapshots of a run (`synthesize`), and which length is best (`sweep`)."""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmaudio.base.errors import Problems, UserError, nearest
from mmaudio.base.logs import start_logging
from mmaudio.base.options import options_parser, parse_options
from mmaudio.files.atomic import atomic_path
from mmaudio.files.owned_files import check_marked, write_marked
from mmaudio.files.ownership import fits, foreign, mark_of, mark_text, parse_mark
from mmaudio.runs.folder import SWEEP_FILE

if TYPE_CHECKING:
    from mmaudio.trainer.ema_sweep import RunAverages

ACTIONS = {"synthesize": "write the averaged weights of one length", "sweep": "find the length with the least validation loss"}
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
    return {"synthesize": _synthesize_action, "sweep": _sweep_action}[action](words)


def averages_parser(action: str, example: str) -> argparse.ArgumentParser:
    """A parser of what every action takes: the run and --step."""
    parser = options_parser(f"mmaudio ema {action}", f"Averages of a run: {ACTIONS[action]}.", f"mmaudio ema {action} {example}")
    parser.add_argument("run", help="folder of the run, output/<exp_id>; its recorded settings say which snapshots and which model")
    parser.add_argument("--step", type=int, default=None, help=STEP_HELP)
    return parser


def open_averages(options: argparse.Namespace, sigmas: Sequence[float], problems: Problems) -> "RunAverages | None":
    """Averages of these widths of the run; None, and why in `problems`, where there are none."""
    from mmaudio.checkpoints.run_files import RunFiles
    from mmaudio.runs.saved_settings import read_settings
    from mmaudio.trainer.ema_sweep import RunAverages

    run = Path(options.run)
    settings = problems.check(lambda: read_settings(run, problems))
    return problems.check(lambda: RunAverages.open(settings, RunFiles(run, settings.name()), sigmas, options.step)) if settings else None


def note_poor_fit(sigma: float, error: float) -> None:
    """Print a note where the snapshots cannot make the average that was asked for."""
    from mmaudio.report.sweep_chart import POOR_FIT

    if error > POOR_FIT:
        print(
            f"note: these snapshots are too few for sigma {sigma:g}: the average is {error:.0%} off the one of that width;"
            " a smaller ema.checkpoint_every stores more"
        )


# ---- `mmaudio ema sweep`: averages of many lengths, scored on the validation rows of the run

PICTURE_FILE = "ema_sweep.png"
_KIND = "sweep"
SIGMAS = (0.03, 0.04, 0.05, 0.065, 0.08, 0.1, 0.13, 0.18, 0.25)


def _sweep_action(words: Sequence[str]) -> int:
    parser = averages_parser("sweep", "output/birds --sigmas 0.05,0.08,0.12")
    parser.add_argument("--sigmas", default=",".join(map(str, SIGMAS)), help="widths, with commas between them (default %(default)s)")
    parser.add_argument("--device", default="auto", help="cuda, cuda:N, cpu, or auto (default)")
    parser.add_argument("--batch_size", type=int, default=None, help="rows at a time; the loss does not depend on it (default: at most 64)")
    problems = Problems()
    options = parse_options(parser, words, problems)
    if options.batch_size is not None and options.batch_size < 1:
        problems.add(f"--batch_size is {options.batch_size}; want a whole number above 0")
    from mmaudio.distributed.devices import pick_device, set_threads
    from mmaudio.distributed.ranks import Ranks
    from mmaudio.report.sweep_chart import draw_sweep, sweep_table
    from mmaudio.trainer.ema_sweep import sweep

    device = problems.check(lambda: pick_device(options.device, Ranks()))
    sigmas = problems.check(lambda: _read_sigmas(options.sigmas))
    averages = open_averages(options, sigmas or SIGMAS, problems)
    if averages is not None:
        _check_places(averages, problems)
    problems.raise_any()
    assert averages is not None
    assert device is not None
    start_logging()
    set_threads(Ranks())
    told, folder = sweep(averages, device, options.batch_size).entries(), averages.files.folder
    name = averages.settings.name()
    with atomic_path(folder / PICTURE_FILE) as temporary:
        draw_sweep(temporary, told, f"{name} after {averages.n:,} EMA updates", mark_text(mark_of(_KIND, name)))
    write_marked(folder / SWEEP_FILE, told, _KIND, name)
    print(sweep_table(told))
    at_step = "" if options.step is None else f" --step {options.step}"
    command = f"mmaudio ema synthesize {shlex.quote(options.run)} --sigma {told['best']['sigma']:g}{at_step}"
    edge = {min(told["sigmas"]): ", the narrowest tried", max(told["sigmas"]): ", the widest tried"}.get(told["best"]["sigma"], "")
    note_poor_fit(told["best"]["sigma"], told["fit_errors"][told["sigmas"].index(told["best"]["sigma"])])
    print(f"best is sigma {told['best']['sigma']:g}{edge}; write its weights with: {command}")
    print(f"all in {folder / SWEEP_FILE} and {folder / PICTURE_FILE}")
    return 0


def _read_sigmas(text: str) -> list[float]:
    try:
        return sorted({float(part) for part in text.split(",")})
    except ValueError:
        raise UserError(f"--sigmas is {text!r}; want numbers with commas between them, such as 0.03,0.05,0.08") from None


def _check_places(averages: "RunAverages", problems: Problems) -> None:
    """Add a sentence for each file that the sweep would replace and that is not this run's."""
    from mmaudio.report.sweep_chart import picture_mark

    folder, name = averages.files.folder, averages.settings.name()
    problems.check(lambda: check_marked(folder / SWEEP_FILE, _KIND, name, ""))
    picture = folder / PICTURE_FILE
    if picture.exists() and not fits(parse_mark(picture_mark(picture)), _KIND, name):
        for sentence in foreign(picture).sentences:
            problems.add(sentence)


# ---- `mmaudio ema synthesize`: the averaged weights of one length, as a file


def _synthesize_action(words: Sequence[str]) -> int:
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


def _output(options: argparse.Namespace, averages: "RunAverages") -> Path:
    """The file to write. Raises: UserError where it, or its record, would take the place of what is not this run's."""
    from mmaudio.checkpoints.save import check_own

    at_step = "" if options.step is None else f"_step{options.step}"
    name = f"{averages.settings.name()}_ema_sigma{options.sigma:g}{at_step}.pth"
    path = Path(options.output) if options.output else averages.files.folder / name
    check_own(path, averages.settings.name(), "name another file: --output")
    return path
