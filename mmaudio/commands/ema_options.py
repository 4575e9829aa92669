"""What the actions of `mmaudio ema` share: the run, which of its snapshots, and averages of them."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmaudio.base.errors import Problems
from mmaudio.base.options import options_parser

if TYPE_CHECKING:
    from mmaudio.trainer.averages import RunAverages

ACTIONS = {"synthesize": "write the averaged weights of one length", "sweep": "find the length with the least validation loss"}
STEP_HELP = """which stored step (default: the newest). Steps count EMA updates, one for each training iteration from ema.start on: step N
is the average after iteration ema.start + N, whatever ema.update_every is. Files <profile>.<N>.pt in ema_ckpts say which are stored"""


def averages_parser(action: str, example: str) -> argparse.ArgumentParser:
    """A parser of what every action takes: the run and --step."""
    parser = options_parser(f"mmaudio ema {action}", f"Averages of a run: {ACTIONS[action]}.", f"mmaudio ema {action} {example}")
    parser.add_argument("run", help="folder of the run, output/<exp_id>; its recorded settings say which snapshots and which model")
    parser.add_argument("--step", type=int, default=None, help=STEP_HELP)
    return parser


def note_poor_fit(sigma: float, error: float) -> None:
    """Print a note where the snapshots cannot make the average that was asked for."""
    from mmaudio.report.sweep import POOR_FIT

    if error > POOR_FIT:
        print(
            f"note: these snapshots are too few for sigma {sigma:g}: the average is {error:.0%} off the one of that width;"
            " a smaller ema.checkpoint_every stores more"
        )


def open_averages(options: argparse.Namespace, sigmas: Sequence[float], problems: Problems) -> "RunAverages | None":
    """Averages of these widths of the run; None, and why in `problems`, where there are none."""
    from mmaudio.checkpoints.run_state import RunFiles
    from mmaudio.commands.saved_settings import read_settings
    from mmaudio.trainer.averages import RunAverages

    run = Path(options.run)
    settings = problems.check(lambda: read_settings(run, problems))
    return problems.check(lambda: RunAverages.open(settings, RunFiles(run, settings.name()), sigmas, options.step)) if settings else None
