"""`mmaudio partition`: long recordings cut into training clips, a table of where each starts and ends; no audio is written.

mmaudio partition --data_dir my/recordings --output_dir my/clips.tsv --max_clips -1 --tail pad
"""

import argparse
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from mmaudio.base.errors import EXIT_REJECTS, Problems, RejectsError, UserError
from mmaudio.base.logs import start_logging
from mmaudio.base.options import options_parser, parse_options
from mmaudio.clips.clip_tables import rejects_path, write_clips, write_rejects
from mmaudio.clips.cutting import CLIP_LENGTH_S, MAX_CLIPS, Cutting, check_slice, default_workers, partition_folder
from mmaudio.files.atomic import check_writable
from mmaudio.files.owned_files import check_recorded
from mmaudio.media.synthetic import make_guide_example

log = logging.getLogger(__name__)
EXAMPLE_FOLDER = Path("training")
DEFAULT_DATA = EXAMPLE_FOLDER / "example_audios"


def main(argv: Sequence[str], prog: str = "mmaudio partition") -> int:
    """Cut as the words say; returns the exit code. `prog`: the name that help and mistakes say, of the command or of its script."""
    problems = Problems()
    options = parse_options(_parser(prog), argv, problems)
    folder, output = Path(options.data_dir), Path(options.output_dir)
    if folder != DEFAULT_DATA and not folder.is_dir():
        problems.add(f"--data_dir is {folder}, which is not a folder")
    cutting = Cutting(options.clip_length, options.max_clips, options.overlap, options.tail, options.min_length)
    problems.check(cutting.check)
    problems.check(lambda: check_slice(options.start, options.end))
    if options.num_workers < 1:
        problems.add(f"--num_workers is {options.num_workers}; want 1 or more")
    clips_tsv = output if output.suffix == ".tsv" else output / "clips.tsv"
    problems.check(lambda: check_writable(clips_tsv.parent))
    failed_tsv = rejects_path(clips_tsv)
    for table in () if options.replace else (clips_tsv, failed_tsv):
        problems.check(partial(check_recorded, table, "name another place, add --replace"))
    problems.raise_any()
    start_logging()
    if folder == DEFAULT_DATA:
        make_guide_example(EXAMPLE_FOLDER)
    if not any(folder.iterdir()):
        raise UserError(f"--data_dir is {folder}, which is empty")
    made = partition_folder(folder, start=options.start, end=options.end, cutting=cutting, num_workers=options.num_workers)
    if not made.num_files:
        raise UserError(f"--start {options.start} --end {options.end} leaves no file of {folder}")
    write_rejects(failed_tsv, made.rejects)
    if not made.clips:
        raise RejectsError(f"none of the {made.num_files} files gave a clip; {failed_tsv} says why for each, and no table was written")
    write_clips(clips_tsv, made.clips)
    left_out = f", {len(made.rejects)} files left out (reasons in {failed_tsv})" if made.rejects else ""
    log.info("%s: %d clips from %d files%s", clips_tsv, len(made.clips), made.num_files, left_out)
    return EXIT_REJECTS if made.rejects else 0


def _parser(prog: str) -> argparse.ArgumentParser:
    example = f"python training/{prog}" if prog.endswith(".py") else f"{prog} --data_dir my/recordings --output_dir my/clips.tsv"
    parser = options_parser(prog, "Cut long recordings into training clips.", example)
    parser.add_argument("--data_dir", "--data_path", default=str(DEFAULT_DATA), help=f"folder of recordings (default {DEFAULT_DATA})")
    parser.add_argument("--output_dir", default="training/example_output/clips.tsv", help="a .tsv file, or a folder for clips.tsv")
    parser.add_argument("--start", type=int, default=0, help="first file of the sorted folder (default 0)")
    parser.add_argument("--end", type=int, default=-1, help="file to stop before; -1 is all (default)")
    parser.add_argument("--clip_length", type=float, default=CLIP_LENGTH_S, help="seconds a clip spans (default 8.1)")
    parser.add_argument("--max_clips", type=int, default=MAX_CLIPS, help="clips per recording at most (default 5); -1 is all that fit")
    parser.add_argument("--overlap", type=float, default=0.0, help="seconds two clips may share at most (default 0)")
    parser.add_argument("--tail", default="drop", help="what is left after the last whole clip: drop it (default), or pad it with silence")
    shortest = "seconds a recording must last, and the new sound in a padded clip (default: the clip's length, with --tail pad 1)"
    parser.add_argument("--min_length", type=float, help=shortest)
    parser.add_argument("--replace", action="store_true", help="move tables aside that this program did not write there")
    workers = default_workers()
    parser.add_argument("--num_workers", type=int, default=workers, help=f"threads that read headers (default {workers} here)")
    return parser
