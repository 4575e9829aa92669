"""`mmaudio ema sweep`: averages of many lengths, scored on the validation rows of the run; table, picture and JSON."""

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mmaudio.base.errors import Problems, UserError
from mmaudio.base.files import atomic_path
from mmaudio.base.logs import start_logging
from mmaudio.base.marked_files import check_marked, write_marked
from mmaudio.base.options import parse_options
from mmaudio.base.ownership import fits, foreign, mark_of, mark_text, parse_mark
from mmaudio.commands.ema_options import averages_parser, note_poor_fit, open_averages
from mmaudio.runs.names import SWEEP_FILE

if TYPE_CHECKING:
    from mmaudio.trainer.averages import RunAverages

PICTURE_FILE = "ema_sweep.png"
_KIND = "sweep"
SIGMAS = (0.03, 0.04, 0.05, 0.065, 0.08, 0.1, 0.13, 0.18, 0.25)


def _read_sigmas(text: str) -> list[float]:
    try:
        return sorted({float(part) for part in text.split(",")})
    except ValueError:
        raise UserError(f"--sigmas is {text!r}; want numbers with commas between them, such as 0.03,0.05,0.08") from None


def _check_places(averages: "RunAverages", problems: Problems) -> None:
    """Add a sentence for each file that the sweep would replace and that is not this run's."""
    from mmaudio.report.sweep import picture_mark

    folder, name = averages.files.folder, averages.settings.name()
    problems.check(lambda: check_marked(folder / SWEEP_FILE, _KIND, name, ""))
    picture = folder / PICTURE_FILE
    if picture.exists() and not fits(parse_mark(picture_mark(picture)), _KIND, name):
        for sentence in foreign(picture).sentences:
            problems.add(sentence)


def main(words: Sequence[str]) -> int:
    parser = averages_parser("sweep", "output/birds --sigmas 0.05,0.08,0.12")
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
