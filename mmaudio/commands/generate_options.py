"""The options of `mmaudio generate`, and what is wrong with them; torch is not needed to read them."""

import argparse
import math
from pathlib import Path

from mmaudio.base.errors import Problems, UserError, nearest
from mmaudio.base.options import options_parser
from mmaudio.base.places import check_writable
from mmaudio.base.specs import AudioSpec
from mmaudio.commands.backend_options import add_backend_options, read_places
from mmaudio.flow.methods import METHODS
from mmaudio.weights import VARIANTS

EXAMPLE = 'mmaudio generate --video rain.mp4 --prompt "rain on a tin roof" --weights output/my_run/my_run_ema_final.pth'
ANY_MODE = "16k"  # every mode has the same shortest duration


def generate_parser() -> argparse.ArgumentParser:
    parser = options_parser("mmaudio generate", "Give videos, images or prompts alone the sound a prompt describes.", EXAMPLE)
    _add_inputs(parser)
    _add_model(parser)
    _add_sampling(parser)
    parser.add_argument(
        "--output",
        default="./output/generated",
        help="folder of the samples (default ./output/generated); one call at a time writes to it, torchrun's processes together",
    )
    parser.add_argument(
        "--replace", action="store_true", help="move files of the same names that this program did not make aside, instead of refusing"
    )
    parser.add_argument("--skip_video_composite", action="store_true", help="write no .mp4")
    parser.add_argument("--reencode", action="store_true", help="encode pictures anew as H.264 instead of copying them as they are")
    parser.add_argument(
        "--keep_existing", action="store_true", help="leave out what is complete in the output folder and made the same way"
    )
    return parser


def _add_inputs(parser: argparse.ArgumentParser) -> None:
    many = "a file, a folder, or a pattern in quotes; repeatable"
    parser.add_argument("--video", action="append", default=[], help=f"{many}; without any input, the prompt alone")
    parser.add_argument("--image", action="append", default=[], help=f"{many}; a scene that stays")
    parser.add_argument(
        "--jsonl",
        default=None,
        help="a JSON object a line, each key optional: video, image, prompt, negative_prompt, name, duration, seed",
    )
    parser.add_argument("--prompt", default="", help="what to hear")
    parser.add_argument("--captions", default=None, help="table with id and label or caption: one prompt per video of the folder")
    parser.add_argument("--negative_prompt", default="", help="what not to hear (the published page has 'music' for videos)")


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--weights", default=None, help="weights file; its record says model, backend and duration")
    parser.add_argument("--variant", default=None, help="which model the weights are of; without --weights: a published model to fetch")
    parser.add_argument("--backend", default=None, help="pretrained or lite (default: as the record says)")
    add_backend_options(parser)
    parser.add_argument("--device", default="auto", help="cuda, cpu or auto (default auto: a GPU if there is one)")
    parser.add_argument("--full_precision", action="store_true", help="float32 on a GPU too, where the model else runs in bf16")


def _add_sampling(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--duration", type=float, default=None, help="seconds (default: as trained); a shorter video lowers it")
    parser.add_argument("--cfg_strength", type=float, default=4.5, help="guidance; below 1 there is none (default 4.5)")
    parser.add_argument("--num_steps", type=int, default=25, help="solver steps (default 25)")
    parser.add_argument("--method", default="euler", help=f"solver, of {', '.join(METHODS)} (default euler); adaptive counts no steps")
    parser.add_argument("--seed", type=int, default=42, help="of the starting noise, together with the sample's name (default 42)")
    parser.add_argument("--batch_size", type=int, default=16, help="samples at once (default 16); changes their latents by rounding alone")
    parser.add_argument("--mask_away_clip", action="store_true", help="withhold the scene, keep the synchronisation stream")


def check_seed(seed: int, name: str) -> None:
    """Raises: UserError for one that the draws cannot be keyed by."""
    if not 0 <= seed < 2**63:
        raise UserError(f"{name} is {seed}; want a whole number from 0 to 2^63 - 1")


def check_options(options: argparse.Namespace, problems: Problems) -> None:
    """Add a sentence for everything wrong with the options themselves; inputs are for `jobs_asked_for`."""
    if options.num_steps < 1 or options.batch_size < 1:
        problems.add(f"--num_steps {options.num_steps} and --batch_size {options.batch_size} have to be at least 1")
    problems.check(lambda: check_seed(options.seed, "--seed"))
    if not math.isfinite(options.cfg_strength):
        problems.add(f"--cfg_strength is {options.cfg_strength}; want a number, such as 4.5")
    if options.method not in METHODS:
        problems.add(f"--method is {options.method!r}{nearest(options.method, METHODS)}; known are {', '.join(METHODS)}")
    if options.duration is not None:
        problems.check(lambda: check_duration(options.duration))
    if options.full_precision and options.dtype != "fp32":
        problems.add(f"--full_precision and --dtype {options.dtype} contradict each other; leave one of them out")
    if options.reencode and options.skip_video_composite:
        problems.add("--reencode is about the .mp4 that --skip_video_composite leaves out; leave one of them out")
    problems.check(lambda: read_places(options.pretrained))
    problems.check(lambda: _check_weights(options))
    problems.check(lambda: check_writable(Path(options.output)))


def check_duration(duration_s: float, where: str = "--duration") -> None:
    """Raises: UserError for seconds that no sample can have; its sentence begins with `where`, which names what says so."""
    if math.isinf(duration_s):
        raise UserError(f"{where}: duration is {duration_s} s; want a number of seconds")
    try:
        AudioSpec(ANY_MODE, duration_s)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None


def _check_weights(options: argparse.Namespace) -> None:
    """Raises: UserError unless the options name weights: a file, or a published model."""
    if options.weights is not None and not Path(options.weights).is_file():
        raise UserError(f"--weights is {options.weights}, which is not a file; training writes output/<exp_id>/<exp_id>_ema_final.pth")
    if options.weights is None and options.variant is None:
        raise UserError("which model? give --weights FILE, or --variant NAME for a published one, such as --variant small_16k")
    if options.weights is None and options.variant not in VARIANTS:
        raise UserError(f"no published model {options.variant!r}{nearest(options.variant, VARIANTS)}; known are {', '.join(VARIANTS)}")
