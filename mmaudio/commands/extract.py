"""`mmaudio extract audio` and `mmaudio extract video`: clips of recordings, or videos with sound, to a store of training features.

mmaudio extract audio --device cpu --backend lite
torchrun --standalone --nproc_per_node=8 -m mmaudio extract video --data_dir my/videos --tsv my/train.tsv --name my-train
"""

import argparse
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mmaudio.base.errors import EXIT_REJECTS, Problems, UserError, nearest
from mmaudio.base.logs import start_logging
from mmaudio.base.machine import num_cores
from mmaudio.base.options import options_parser, parse_options, read_column_dtypes, spec_of
from mmaudio.base.specs import CHOSEN_DTYPES, DEFAULT_DURATION_S, LAYOUTS, MODES
from mmaudio.distributed.ranks import read_ranks, watch_launcher
from mmaudio.features.backend_plan import BACKENDS, FOR_AUDIO, FOR_VIDEO, BackendPlan, add_backend_options, backend_keywords
from mmaudio.files.atomic import check_writable
from mmaudio.media.frame_selection import FRAME_RULES

if TYPE_CHECKING:
    from mmaudio.extraction.inputs import Inputs
    from mmaudio.extraction.job import ExtractionKind
    from mmaudio.extraction.pipeline import Outcome
    from mmaudio.extraction.store_target import StoreTarget

log = logging.getLogger(__name__)
COLUMN_DTYPE = "COLUMN=DTYPE"
RESIZES = ("auto", "host", "device")  # auto: on a GPU, where there is one
EXAMPLE_FOLDER = Path("training")
EXAMPLE_VIDEOS = EXAMPLE_FOLDER / "example_videos"
HELP = """usage: mmaudio extract audio [OPTIONS]   clips of recordings to a store of training features
       mmaudio extract video [OPTIONS]   videos with sound to a store of training features

example:
  mmaudio extract video --help"""


def main(argv: Sequence[str]) -> int:
    """`audio` or `video`, and their options. Raises: UserError with every mistake in the words."""
    if not argv or argv[0] in ("-h", "--help"):
        print(HELP)
        return 0
    kind, *words = argv
    if kind not in KINDS:
        raise UserError(f"no extraction of {kind!r}{nearest(kind, KINDS)}; known are {', '.join(KINDS)}")
    return KINDS[kind](words)


# ---- The two extractions: their options, and what each of them is about


def extract_audio(argv: Sequence[str], prog: str = "mmaudio extract audio") -> int:
    """Clips of recordings. Returns: the exit code. `prog`: the name that help and mistakes say, of the command or of its script."""
    parser = options_parser(prog, "Clips of recordings to a store of training features.", _example(prog))
    parser.add_argument("--data_dir", "--data_path", default="training/example_audios", help="folder of .flac and .wav files")
    parser.add_argument("--captions_tsv", default="training/example_audio.tsv", help="table with id and caption")
    parser.add_argument("--clips_tsv", default="training/example_output/clips.tsv", help="table partition_clips.py made")
    parser.add_argument("--latent_dir", default="training/example_output/audio-latents", help="folder of the work under way")
    parser.add_argument("--output_dir", default="training/example_output/memmap/audio-example", help="folder of the store")
    _add_common_options(parser, batch_size=32, num_workers=8)
    problems = Problems()
    options = parse_options(parser, argv, problems)

    from mmaudio.extraction.inputs import find_audio_clips
    from mmaudio.extraction.job import ExtractionKind
    from mmaudio.extraction.reading import ReadingRules
    from mmaudio.extraction.store_target import StoreTarget

    output, captions_tsv, clips_tsv = Path(options.output_dir), Path(options.captions_tsv), Path(options.clips_tsv)
    stage = ExtractionKind(
        find=lambda: find_audio_clips(Path(options.data_dir), captions_tsv, clips_tsv),
        tables=(captions_tsv, clips_tsv),
        target=StoreTarget(output.parent, output.name, options.replace, options.append),
        needs=FOR_AUDIO,
        rules=ReadingRules(normalised=True),
    )
    return _run_extraction(options, problems, stage)


def extract_video(argv: Sequence[str], prog: str = "mmaudio extract video") -> int:
    """Videos with sound. Returns: the exit code. `prog`: the name that help and mistakes say, of the command or of its script."""
    parser = options_parser(prog, "Videos with sound to a store of training features.", _example(prog))
    parser.add_argument("--data_dir", "--data_path", default=str(EXAMPLE_VIDEOS), help="folder of {id}.mp4 files")
    parser.add_argument("--tsv", default="training/example_video.tsv", help="table with id and label")
    parser.add_argument("--name", default="vgg-example", help="name of the store (default vgg-example)")
    parser.add_argument(
        "--normalize_audio", choices=["true", "false"], default="true", help="bring each sound track to one peak (default true)"
    )
    parser.add_argument("--latent_dir", default="training/example_output/video-latents", help="folder of the work under way")
    parser.add_argument("--output_dir", default="training/example_output/memmap", help="folder the store goes into")
    rules, places = "how frames are picked (default exact; ffmpeg: as its fps filter)", "where frames get their sizes (default: on a GPU)"
    parser.add_argument("--frame_rule", choices=FRAME_RULES, default=FRAME_RULES[0], help=rules)
    parser.add_argument("--resize", choices=RESIZES, default="auto", help=places)
    _add_common_options(parser, batch_size=16, num_workers=16)
    problems = Problems()
    options = parse_options(parser, argv, problems)

    from mmaudio.extraction.inputs import find_videos
    from mmaudio.extraction.job import ExtractionKind
    from mmaudio.extraction.reading import ReadingRules
    from mmaudio.extraction.store_target import StoreTarget
    from mmaudio.media.synthetic import make_guide_example

    folder, tsv, output = Path(options.data_dir), Path(options.tsv), Path(options.output_dir)

    def find() -> "Inputs":
        if folder == EXAMPLE_VIDEOS:  # every process may: the files are the same ones, each put in place at once
            make_guide_example(EXAMPLE_FOLDER)
        return find_videos(folder, tsv)

    stage = ExtractionKind(
        find=find,
        tables=(tsv,),
        target=StoreTarget(output, options.name, options.replace, options.append),
        needs=FOR_VIDEO,
        rules=ReadingRules(options.normalize_audio == "true", options.frame_rule, options.resize),
    )
    return _run_extraction(options, problems, stage)


KINDS = {"audio": extract_audio, "video": extract_video}


def _example(prog: str) -> str:
    program = f"training/{prog}" if prog.endswith(".py") else f"-m {prog}"
    return f"torchrun --standalone {program} --device cpu --backend lite"


def _add_common_options(parser: argparse.ArgumentParser, *, batch_size: int, num_workers: int) -> None:
    """Options both have; the defaults are the published numbers, workers at most one less than the cores."""
    parser.add_argument("--mode", choices=list(MODES), default="16k", help="sampling rate of the latents (default 16k)")
    parser.add_argument("--backend", choices=BACKENDS, default="pretrained", help="encoders (default pretrained; lite needs no weights)")
    parser.add_argument("--device", default="cuda", help="cuda, cpu or auto (default cuda)")
    add_backend_options(parser)
    parser.add_argument("--layout", choices=LAYOUTS, default="compact", help="layout of the store (default compact)")
    parser.add_argument(
        "--column_dtype",
        metavar=COLUMN_DTYPE,
        action="append",
        default=[],
        help=f"dtype of a column of the compact layout, such as sync_features=fp32 ({', '.join(CHOSEN_DTYPES)}; default bf16); repeatable",
    )
    parser.add_argument("--duration", type=float, default=DEFAULT_DURATION_S, help="seconds of a training clip (default 8.0)")
    parser.add_argument("--batch_size", type=int, default=batch_size, help=f"clips encoded at once on a GPU (default {batch_size})")
    workers = max(1, min(num_workers, num_cores() - 1))
    parser.add_argument("--num_workers", type=int, default=workers, help=f"threads that read files (default {workers} here)")
    parser.add_argument("--append", action="store_true", help="add the rows whose ids it lacks to the store that stands there")
    parser.add_argument("--replace", action="store_true", help="move a store that stands there, and would be lost, aside")
    shares = "give up when more inputs fail: a number, or a share as 0.05 (1.0: all)"
    parser.add_argument("--max_failures", metavar="N", default=None, help=shares)
    parser.add_argument("--retry_failed", action="store_true", help="going on, try again what failed when this extraction was stopped")


# ---- The way from checked options to a store


def _run_extraction(options: argparse.Namespace, problems: Problems, stage: "ExtractionKind") -> int:
    """Check everything, extract, and report. Returns the exit code: 0, or 3 where inputs were left out.

    Raises: UserError with every mistake found before any work.
    """
    import torch

    from mmaudio.distributed.collectives import UNEVEN_WORK_TIMEOUT, barrier, process_group
    from mmaudio.distributed.devices import pick_device
    from mmaudio.extraction.job import Job, plan_extraction
    from mmaudio.extraction.pipeline import extract
    from mmaudio.extraction.progress import FailureLimit
    from mmaudio.features.backend import Backend

    ranks = read_ranks()
    watch_launcher(ranks)
    start_logging(ranks.rank)
    for name in ("batch_size", "num_workers"):
        if getattr(options, name) < 1:
            problems.add(f"--{name} is {getattr(options, name)}; want at least 1")
    for name in ("latent_dir", "output_dir", "data_dir"):
        if not getattr(options, name):
            problems.add(f"--{name} is empty; want a folder")
    if options.append and options.replace:
        problems.add("--append adds to the store that stands there and --replace gives it up; leave one of them out")
    problems.check(lambda: check_writable(Path(options.latent_dir)))
    device = problems.check(lambda: pick_device(options.device, ranks))
    wanted = problems.check(lambda: BackendPlan(options.backend, spec_of(options.mode, options.duration), **backend_keywords(options)))
    dtypes = problems.check(lambda: read_column_dtypes("--column_dtype", options.column_dtype, options.layout))
    limit = problems.check(lambda: FailureLimit.parse(options.max_failures))
    inputs = problems.check(stage.find)
    problems.check(lambda: stage.target.check(stage.tables))
    plan = None
    if wanted is not None and device is not None and inputs is not None and dtypes is not None:
        plan = problems.check(partial(plan_extraction, options, stage, wanted, device, inputs, dtypes))
    problems.raise_any()
    assert plan and device and limit
    if not plan.inputs.items:
        log.info("%s: nothing to add, all ids of the table are in it", stage.target.folder)
        if ranks.is_first:
            plan.workspace(weights=None).clear_if_done()
        return 0
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = Backend.load(plan.backend, device, stage.needs)  # may download weights, so everything else is known to be right before
    work = plan.workspace(backend.weights)
    job = Job(plan.inputs, plan.rules, work.manifest.recipe, work, options.batch_size, options.num_workers, limit)
    # Files are read by threads and each clip is encoded on its own: one arithmetic thread a process keeps rows equal
    # whatever the number of processes, and the pools from fighting over the cores.
    torch.set_num_threads(1)
    with process_group(ranks, torch.device("cpu"), UNEVEN_WORK_TIMEOUT):
        code = _report(extract(job, stage.target, plan.base, backend, ranks, retry_failed=options.retry_failed), stage.target)
        # All leave together and with one code: a launcher ends the rest of its processes when one fails, and one that saw
        # no failure waits for minutes for the launchers of other machines that did.
        barrier()
    return code


def _report(outcome: "Outcome", target: "StoreTarget") -> int:
    left_out = f", {len(outcome.rejects)} left out (reasons in {target.failed_tsv})" if outcome.rejects else ""
    log.info("%s: %d of %d inputs kept%s", target.folder, outcome.num_kept, outcome.num_seen, left_out)
    return EXIT_REJECTS if outcome.rejects else 0
